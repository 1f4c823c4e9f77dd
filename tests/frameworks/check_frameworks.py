"""The callbacks in the real frameworks, on a simulated machine and CPU: `make test-frameworks`.

What is installed for it is in tests/support/frameworks.txt, or frameworks-oldest.txt.
"""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from carbonmon.integrations.nominal_flops import flops_per_token
from tests.frameworks import record
from tests.simulator import Constant, Gpu, Package, Simulator
from tests.support import command, ranks

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("default"),  # the frameworks' own
]

BIN = Path(sys.executable).parent
TREE = Path(__file__).parent.parent.parent
LEAST_COST_STEPS = 200


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a short name: the path of a socket has at most 107 bytes."""
    return tmp_path_factory.mktemp("f")


def train(folder: Path, words: list[str], **environ: str) -> subprocess.CompletedProcess[str]:
    gpus = [Gpu(profile=Constant(250.0)), Gpu(profile=Constant(150.0))]
    with Simulator(gpus=gpus, packages=[Package(Constant(120.0))]) as node:
        settings = ranks.settings(node, folder, PYTHONPATH=str(TREE), **environ)
        done = subprocess.run(
            words, cwd=folder, env=settings, capture_output=True, text=True, timeout=200.0, check=False
        )
    assert done.returncode == 0, done.stderr
    assert "the training goes on without it" not in done.stderr, done.stderr
    return done


@pytest.mark.parametrize("framework", record.RECORDERS)
def test_the_hooks_come_in_the_order_that_was_recorded(framework: str):
    version = importlib.metadata.version(framework)
    kept = record.FOLDER / f"{framework}-{version}.json"
    assert kept.exists(), "a release without a record: python -m tests.frameworks.record"
    assert json.loads(json.dumps(record.RECORDERS[framework]())) == json.loads(kept.read_text())


@pytest.mark.parametrize("backend", ["none", "jax", "torch"])
@pytest.mark.parametrize("name", ["transformers", "lightning", "keras", "loop"])
def test_an_example_shows_joules_a_step_and_its_run_has_the_steps(folder: Path, name: str, backend: str):
    if (name == "keras") is (backend == "none"):
        pytest.skip("Keras alone has several back ends")
    program = str(TREE / "examples" / f"train_{name}.py")
    done = train(
        folder,
        [str(BIN / "carbonmon"), "run", "--quiet", "--gpus", "0,1", "--", sys.executable, program],
        KERAS_BACKEND=backend,
    )
    assert "carbonmon_energy_per_step_j" in done.stdout
    assert "carbonmon_energy_per_sample_j" in done.stdout
    work = command.summary(folder)["work"]
    assert work["steps"] == work["total_steps"] > 100
    assert work["energy_per_step_j"] > 0.0
    if name in ("transformers", "loop"):
        assert "carbonmon_energy_per_token_j" in done.stdout
        assert work["tokens"] > 0


@pytest.mark.parametrize("kind", ["trainer", "lightning", "loop"])
def test_two_ranks_stop_at_one_step_where_one_is_asked_to(folder: Path, kind: str):
    torchrun = [str(BIN / "torchrun"), "--nproc-per-node", "2", "-m", "tests.frameworks.two_ranks", kind]
    done = train(folder, torchrun)
    said = [line.split()[-1] for line in done.stdout.splitlines() if "ended after step" in line]
    assert len(said) == 2
    assert said[0] == said[1]
    assert int(said[0]) <= 32  # the eighth look at the budget, one at each fourth step


def hf_training(folder: Path, **settings: Any) -> tuple[Any, Any]:
    from transformers import Trainer

    from carbonmon.integrations.transformers import attach

    arguments = record.arguments(str(folder), max_steps=8, logging_steps=2, **settings)
    trainer = Trainer(
        record.tiny_gpt2(), arguments, train_dataset=record.texts(20), eval_dataset=record.texts(8)
    )
    return trainer, attach(trainer)


def test_an_evaluation_s_metrics_and_a_checkpoint_have_nothing_of_ours(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    with Simulator(packages=[Package(Constant(120.0))]) as node:
        for name, value in ranks.settings(node, folder).items():
            monkeypatch.setenv(name, value)
        trainer, _ = hf_training(folder, save_steps=8, eval_strategy="steps", eval_steps=4)
        logged: list[dict[str, float]] = []
        report = SimpleNamespace(on_log=lambda *_, logs, **__: logged.append(dict(logs)))
        trainer.callback_handler.callbacks.append(Reporter(report))
        result = trainer.train()
        assert result.metrics["carbonmon_energy_j"] > 0.0
        assert not [key for key in trainer.evaluate() if key.startswith("carbonmon")]
    assert any("carbonmon_energy_j" in logs for logs in logged if "loss" in logs)
    assert not any("carbonmon_energy_j" in logs for logs in logged if "eval_loss" in logs)
    state = json.loads((folder / "checkpoint-8" / "trainer_state.json").read_text())
    assert not [name for name in state["stateful_callbacks"] if "arbonmon" in name]


class Reporter:
    """A callback that comes last, as those of trackers do."""

    def __init__(self, hooks: Any) -> None:
        self._hooks = hooks

    def __getattr__(self, name: str) -> Any:
        return getattr(self._hooks, name, lambda *_, **__: None)


def test_the_flops_of_a_dense_model_are_those_that_torch_counts():
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    few = {"vocab_size": 512, "bos_token_id": 0, "eos_token_id": 0}
    llama = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4}
    models = (
        GPT2LMHeadModel(GPT2Config(n_embd=128, n_layer=2, n_head=4, n_positions=64, **few)),  # tied
        LlamaForCausalLM(LlamaConfig(tie_word_embeddings=False, **llama, **few)),
        LlamaForCausalLM(LlamaConfig(tie_word_embeddings=True, **llama, **few)),
    )
    text = torch.zeros((2, 8), dtype=torch.long)  # short, so that attention's own products are few
    for model in models:
        with FlopCounterMode(display=False) as counter:
            model(input_ids=text, labels=text).loss.backward()
        counted = counter.get_total_flops() / text.numel()
        # The first layer's inputs need no gradient, and torch does not count what it does not do.
        assert flops_per_token(model) == pytest.approx(counted, rel=0.05)


def test_the_flops_of_other_models_are_unknown():
    from transformers import (
        MixtralConfig,
        MixtralForCausalLM,
        T5Config,
        T5ForConditionalGeneration,
        ViTConfig,
        ViTForImageClassification,
    )

    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    mixtral = MixtralConfig(**small, num_key_value_heads=2, num_local_experts=4, vocab_size=64)
    frozen = record.tiny_gpt2()
    next(frozen.parameters()).requires_grad = False
    others = (
        MixtralForCausalLM(mixtral),
        T5ForConditionalGeneration(
            T5Config(d_model=32, d_kv=8, d_ff=64, num_layers=1, num_heads=2, vocab_size=64)
        ),
        ViTForImageClassification(ViTConfig(**small, image_size=32, patch_size=8)),
        frozen,
        torch.nn.Linear(2, 2),
    )
    assert [flops_per_token(model) for model in others] == [None] * 5


def timed(callback: Any, hooks: tuple[str, ...]) -> dict[str, list[float]]:
    """The seconds that hooks take from now on."""
    seconds: dict[str, list[float]] = {name: [] for name in hooks}

    def watched(call: Any, took: list[float]) -> Any:
        def hook(*arguments: Any, **named: Any) -> None:
            begin_s = time.perf_counter()
            call(*arguments, **named)
            took.append(time.perf_counter() - begin_s)

        return hook

    for name in hooks:
        setattr(callback, name, watched(getattr(callback, name), seconds[name]))
    return seconds


def test_a_step_costs_a_trainer_at_most_50_microseconds(folder: Path, monkeypatch: pytest.MonkeyPatch):
    with Simulator(gpus=[Gpu()], packages=[Package(Constant(120.0))]) as node:
        for name, value in ranks.settings(node, folder).items():
            monkeypatch.setenv(name, value)
        trainer, callback = hf_training(folder)
        trainer.args.max_steps, trainer.args.logging_steps = 2 * LEAST_COST_STEPS, LEAST_COST_STEPS
        seconds = timed(callback, ("on_step_end", "on_log"))
        trainer.train()
    step_s = sorted(seconds["on_step_end"])
    logs = ", ".join(f"{each * 1e3:.1f}" for each in seconds["on_log"])
    sys.stdout.write(f"\nTABLE | Trainer | {step_s[len(step_s) // 2] * 1e6:.0f} us | a log {logs} ms |\n")
    assert step_s[len(step_s) // 2] <= 50e-6


def test_a_step_costs_lightning_at_most_50_microseconds(folder: Path, monkeypatch: pytest.MonkeyPatch):
    import lightning
    from lightning.pytorch.loggers import CSVLogger

    from carbonmon.integrations.lightning import CarbonmonCallback

    callback = CarbonmonCallback(samples=2)
    seconds = timed(callback, ("on_train_batch_start", "on_train_batch_end"))
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.ones(800, 2)), batch_size=2)
    with (
        Simulator(gpus=[Gpu()], packages=[Package(Constant(120.0))]) as node,
        tempfile.TemporaryDirectory() as logs,
    ):
        for name, value in ranks.settings(node, folder).items():
            monkeypatch.setenv(name, value)
        lightning.Trainer(
            max_epochs=1,
            accelerator="cpu",
            logger=CSVLogger(logs),
            callbacks=[callback],
            enable_progress_bar=False,
            enable_checkpointing=False,
            enable_model_summary=False,
        ).fit(record.network(), loader)
        rows = [line.split(",") for line in next(Path(logs).glob("**/metrics.csv")).read_text().splitlines()]
    assert "carbonmon_energy_per_sample_j" in rows[0]
    pairs = zip(seconds["on_train_batch_start"], seconds["on_train_batch_end"], strict=True)
    step_s = sorted(map(sum, pairs))
    sys.stdout.write(f"\nTABLE | Lightning | {step_s[len(step_s) // 2] * 1e6:.0f} us |\n")
    assert step_s[len(step_s) // 2] <= 50e-6
