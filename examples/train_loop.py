"""Trains a small network in a loop written by hand, with joules a token beside the loss.

A recurrent network in PyTorch learns to count on from a random number. A CPU is enough. Needs torch.
"""

from __future__ import annotations

import argparse

import torch
from torch import nn

import carbonmon

LENGTH = 64
WORDS = 256
BATCH = 32


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 64)
        self.memory = nn.GRU(64, 128, batch_first=True)
        self.words = nn.Linear(128, WORDS)

    def forward(self, text: torch.Tensor) -> torch.Tensor:
        return self.words(self.memory(self.embedding(text))[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=4, help="how long to train (default: 4)")
    epochs = parser.parse_args().epochs

    torch.manual_seed(0)
    texts = (torch.randint(0, WORDS, (3200, 1)) + torch.arange(LENGTH + 1)) % WORDS
    loader = torch.utils.data.DataLoader(texts, batch_size=BATCH, shuffle=True)
    network = Network()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)

    with carbonmon.track() as run:
        for _ in range(epochs):
            steps = run.steps(loader, total=epochs * len(loader), samples=len, tokens=BATCH * LENGTH)
            for batch in steps:
                scores = network(batch[:, :-1])
                loss = nn.functional.cross_entropy(scores.flatten(0, 1), batch[:, 1:].flatten())
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                if steps.count % 50 == 0:
                    # reading the loss waits for the device, so that the figures are those of finished steps
                    print({"step": steps.count, "loss": loss.item(), **steps.figures()})


if __name__ == "__main__":
    main()
