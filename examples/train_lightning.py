"""Trains a small network with Lightning; its CSV log then holds joules a step and a sample.

The data are made on the spot, and a CPU is enough. Needs lightning.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.loggers import CSVLogger
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from carbonmon.integrations.lightning import CarbonmonCallback

BATCH = 64


class Network(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 1))

    def training_step(self, batch: list[torch.Tensor], number: int) -> torch.Tensor:
        loss = self._loss(batch)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: list[torch.Tensor], number: int) -> None:
        self.log("val_loss", self._loss(batch))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-3)

    def _loss(self, batch: list[torch.Tensor]) -> torch.Tensor:
        x, y = batch
        return nn.functional.mse_loss(self.layers(x), y)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=10, help="how long to train (default: 10)")
    epochs = parser.parse_args().epochs

    L.seed_everything(0)
    with tempfile.TemporaryDirectory() as folder:
        logger = CSVLogger(folder)
        trainer = L.Trainer(
            max_epochs=epochs,
            log_every_n_steps=50,
            logger=logger,
            callbacks=[CarbonmonCallback(samples=BATCH)],
            enable_checkpointing=False,
            enable_progress_bar=False,
        )
        trainer.fit(Network(), loader(20_000), loader(2_000))
        print(Path(logger.log_dir, "metrics.csv").read_text())


def loader(rows: int) -> DataLoader:
    """Sums of squares of random numbers."""
    x = torch.randn(rows, 64)
    return DataLoader(TensorDataset(x, x.square().sum(dim=1, keepdim=True)), batch_size=BATCH, drop_last=True)


if __name__ == "__main__":
    main()
