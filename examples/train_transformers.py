"""Trains a tiny language model with transformers' `Trainer`, whose log then holds joules a token.

The model and its text are made on the spot: nothing is downloaded, and a CPU is enough. Needs transformers,
accelerate and torch.
"""

from __future__ import annotations

import argparse
import tempfile

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

from carbonmon.integrations.transformers import attach

LENGTH = 64
WORDS = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=120, help="how long to train (default: 120)")
    steps = parser.parse_args().steps

    torch.manual_seed(0)
    shape = GPT2Config(
        vocab_size=WORDS, n_positions=LENGTH, n_embd=128, n_layer=4, n_head=4, bos_token_id=0, eos_token_id=0
    )
    model = GPT2LMHeadModel(shape)
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(
            output_dir=folder,
            max_steps=steps,
            per_device_train_batch_size=8,
            logging_steps=max(1, steps // 6),
            save_strategy="no",
            eval_strategy="steps",
            eval_steps=max(1, steps // 2),
            include_num_input_tokens_seen="all",  # without it the log has no joules a token
            disable_tqdm=True,
            report_to=[],
            use_cpu=not torch.cuda.is_available(),
        )
        trainer = Trainer(model, settings, train_dataset=counting(2000), eval_dataset=counting(100))
        attach(trainer)
        trainer.train()


def counting(rows: int) -> list[dict[str, torch.Tensor]]:
    """Texts that count on from a random number: easy to learn."""
    starts = torch.randint(0, WORDS, (rows, 1))
    texts = (starts + torch.arange(LENGTH)) % WORDS
    return [{"input_ids": text, "labels": text} for text in texts]


if __name__ == "__main__":
    main()
