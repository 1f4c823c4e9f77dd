"""Records in which order a framework calls a callback's hooks, and what its state then is.

`python -m tests.frameworks.record` writes tests/fixtures/hooks/NAME-VERSION.json for the releases that are
installed; the tests replay them where the frameworks are not.
"""

from __future__ import annotations

import json
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent.parent / "fixtures" / "hooks"

Events = list[dict[str, Any]]

STATE = (
    *("global_step", "epoch", "max_steps", "logging_steps", "num_input_tokens_seen"),
    *("is_world_process_zero", "is_local_process_zero"),
)
CONTROL = "should_log", "should_evaluate", "should_save", "should_training_stop"
ARGS = "include_num_input_tokens_seen", "logging_nan_inf_filter", "world_size", "bf16", "fp16", "tf32"
TRAINER = "global_step", "log_every_n_steps", "sanity_checking", "should_stop", "local_rank", "world_size"


def hooks_of(callback: type) -> list[str]:
    """The hooks that a callback of ours has."""
    return [name for name in vars(callback) if name.startswith("on_")]


def tiny_gpt2() -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    shape = {"n_positions": 16, "n_embd": 8, "n_layer": 1, "n_head": 1, "bos_token_id": 0, "eos_token_id": 0}
    return GPT2LMHeadModel(GPT2Config(vocab_size=32, **shape))


def texts(rows: int) -> list[dict[str, Any]]:
    import torch

    return [{"input_ids": torch.arange(16) % 32, "labels": torch.arange(16) % 32} for _ in range(rows)]


def arguments(folder: str, **more: Any) -> Any:
    from transformers import TrainingArguments

    return TrainingArguments(
        output_dir=folder,
        per_device_train_batch_size=more.pop("per_device_train_batch_size", 4),
        gradient_accumulation_steps=2,
        include_num_input_tokens_seen="all",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        **more,
    )


def transformers_hooks() -> dict[str, Events]:
    from transformers import Trainer, TrainerCallback

    from carbonmon.integrations.transformers import CarbonmonCallback

    class Recorder(TrainerCallback):
        def __init__(self) -> None:
            self.events: Events = []

    def hook_of(name: str) -> Any:
        def hook(self: Any, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            event: dict[str, Any] = {"hook": name}
            event |= {each: getattr(state, each) for each in STATE}
            event |= {each: getattr(control, each) for each in CONTROL}
            event |= {each: getattr(args, each, None) for each in ARGS}
            self.events.append(event if logs is None else event | {"logs": sorted(logs)})

        return hook

    for name in hooks_of(CarbonmonCallback):
        setattr(Recorder, name, hook_of(name))

    def recorded(resume: bool = False, **settings: Any) -> Events:
        trainer = Trainer(
            tiny_gpt2(), arguments(folder, **settings), train_dataset=texts(20), eval_dataset=texts(8)
        )
        recorder = Recorder()
        trainer.callback_handler.callbacks.insert(1, recorder)
        trainer.train(resume_from_checkpoint=resume or None)
        return recorder.events

    with tempfile.TemporaryDirectory() as folder:
        found = {
            "steps": recorded(
                max_steps=8, logging_steps=3, eval_strategy="steps", eval_steps=2, save_steps=4
            ),
            "resumed": recorded(
                resume=True, max_steps=10, logging_steps=1, eval_strategy="no", save_strategy="no"
            ),
        }
    with tempfile.TemporaryDirectory() as folder:
        each = dict.fromkeys(("logging_strategy", "eval_strategy", "save_strategy"), "epoch")
        found["epochs"] = recorded(num_train_epochs=2, **each)
    return found


def network(fails_at: int = -1) -> Any:
    """A module of Lightning's whose training fails at a batch."""
    import lightning
    import torch

    class Network(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(2, 1)

        def training_step(self, batch: Any, number: int) -> Any:
            if number == fails_at:
                raise RuntimeError("planted")
            return self.layer(batch[0]).mean()

        def validation_step(self, batch: Any, number: int) -> None:
            self.layer(batch[0])

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    return Network()


def lightning_hooks() -> dict[str, Events]:
    import lightning
    import torch
    from lightning.pytorch.callbacks import Callback

    from carbonmon.integrations.lightning import CarbonmonCallback

    class Recorder(Callback):
        def __init__(self) -> None:
            self.events: Events = []

    def hook_of(name: str) -> Any:
        def hook(self: Any, trainer: Any, module: Any, *_: Any) -> None:
            stepped = trainer.fit_loop.epoch_loop._batches_that_stepped
            event = {"hook": name, **{each: getattr(trainer, each) for each in TRAINER}}
            self.events.append(event | {"batches_that_stepped": stepped})

        return hook

    for name in hooks_of(CarbonmonCallback):
        setattr(Recorder, name, hook_of(name))

    def recorded(fails_at: int = -1, **settings: Any) -> Events:
        recorder = Recorder()
        loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.ones(28, 2)), batch_size=4)
        with tempfile.TemporaryDirectory() as folder, suppress(RuntimeError):
            lightning.Trainer(
                default_root_dir=folder,
                log_every_n_steps=3,
                callbacks=[recorder],
                accelerator="cpu",
                enable_progress_bar=False,
                enable_model_summary=False,
                **settings,
            ).fit(network(fails_at), loader, loader)
        return recorder.events

    return {
        "epochs": recorded(max_epochs=2),
        "accumulated": recorded(max_epochs=1, accumulate_grad_batches=2, val_check_interval=3),
        "failed": recorded(max_epochs=1, fails_at=4),
    }


RECORDERS = {"transformers": transformers_hooks, "lightning": lightning_hooks}


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, record in RECORDERS.items():
        found = record()  # loads the framework
        path = FOLDER / f"{name}-{sys.modules[name].__version__}.json"
        lines = [
            f'"{key}": [\n' + ",\n".join(map(json.dumps, events)) + "\n]" for key, events in found.items()
        ]
        path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
