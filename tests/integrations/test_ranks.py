"""How many ranks there are, and whether one of them wishes something: as torch, JAX or the launcher say."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from carbonmon.integrations import ranks

pytestmark = pytest.mark.usefixtures("clean")

MODULES = "torch", "torch.distributed", "jax"


class Distributed:
    """torch.distributed of two ranks, of which the other one wishes or not."""

    ReduceOp = SimpleNamespace(MAX="max")

    def __init__(self, other: int, backend: str = "gloo", size: int = 2) -> None:
        self.other = other
        self.backend = backend
        self.size = size
        self.rank = 0

    def is_available(self) -> bool:
        return True

    is_initialized = is_available

    def get_world_size(self) -> int:
        return self.size

    def get_rank(self) -> int:
        return self.rank

    def get_backend(self) -> str:
        return self.backend

    def all_reduce(self, flag: Any, op: str) -> None:
        assert op == "max"
        flag.value = max(flag.value, self.other)


class Flag:
    def __init__(self, values: list[int], dtype: object, device: tuple[object, ...]) -> None:
        (self.value,) = values
        self.device = device
        made.append(self)

    def item(self) -> int:
        return self.value


made: list[Flag] = []


@pytest.fixture(autouse=True)
def no_frameworks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in MODULES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    made.clear()


def load(monkeypatch: pytest.MonkeyPatch, distributed: Distributed) -> None:
    cuda = SimpleNamespace(current_device=lambda: 3)
    torch = SimpleNamespace(tensor=Flag, int32="int32", device=lambda *where: where, cuda=cuda)
    monkeypatch.setitem(sys.modules, "torch", torch)  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "torch.distributed", distributed)  # type: ignore[arg-type]


@pytest.mark.parametrize(("wish", "other"), [(False, 0), (False, 1), (True, 0), (True, 1)])
def test_what_one_rank_wishes_all_know(monkeypatch: pytest.MonkeyPatch, wish: bool, other: int):
    load(monkeypatch, Distributed(other))
    assert ranks.any_rank(wish) is (wish or bool(other))


def test_the_flag_is_where_the_ranks_speak(monkeypatch: pytest.MonkeyPatch):
    for backend, device in (("nccl", ("cuda", 3)), ("cpu:gloo,cuda:nccl", ("cuda", 3)), ("gloo", ("cpu",))):
        load(monkeypatch, Distributed(0, backend))
        ranks.any_rank(True)
        assert made[-1].device == device


def test_alone_nothing_is_exchanged(monkeypatch: pytest.MonkeyPatch):
    assert ranks.any_rank(True) is True
    load(monkeypatch, Distributed(1, size=1))
    assert ranks.any_rank(False) is False
    assert made == []


def test_a_collective_that_fails_is_a_warning(monkeypatch: pytest.MonkeyPatch):
    broken = Distributed(0)
    monkeypatch.setattr(broken, "all_reduce", lambda *_, **__: 1 / 0)
    load(monkeypatch, broken)
    assert not ranks.any_rank(True)


def test_the_frameworks_know_the_ranks_better_than_the_launcher(monkeypatch: pytest.MonkeyPatch):
    assert ranks.world_size() == 1
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("LOCAL_RANK", "2")
    assert (ranks.world_size(), ranks.counts_here()) == (4, False)
    jax = SimpleNamespace(distributed=SimpleNamespace(is_initialized=lambda: True), process_count=lambda: 8)
    monkeypatch.setitem(sys.modules, "jax", jax)  # type: ignore[arg-type]
    assert ranks.world_size() == 8
    load(monkeypatch, Distributed(0))
    assert ranks.world_size() == 2


def test_of_ranks_without_a_launcher_the_first_counts(monkeypatch: pytest.MonkeyPatch):
    """As mp.spawn makes them: only torch knows."""
    assert ranks.counts_here()
    distributed = Distributed(0)
    load(monkeypatch, distributed)
    assert ranks.counts_here()
    distributed.rank = 1
    assert not ranks.counts_here()


def test_a_jax_that_was_only_imported_is_not_woken(monkeypatch: pytest.MonkeyPatch):
    """Asking it for its processes would take the memory of the GPUs."""
    quiet = SimpleNamespace(distributed=SimpleNamespace(is_initialized=lambda: False))
    monkeypatch.setitem(sys.modules, "jax", quiet)  # type: ignore[arg-type]
    assert ranks.world_size() == 1


def test_steps_load_the_standard_library_and_the_client_only():
    code = (
        "import sys; import carbonmon; run = carbonmon.Run(); list(run.steps([1, 2])); "
        "print(*{name.partition('.')[0] for name in sys.modules} - sys.stdlib_module_names, "
        "*(name for name in sys.modules if name.startswith('carbonmon.') and name.count('.') == 1))"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    ours = {name for name in child.stdout.split() if name.startswith("carbonmon.")}
    assert ours == {"carbonmon.client", "carbonmon.core", "carbonmon.integrations", "carbonmon.version"}
    others = {name for name in child.stdout.split() if "." not in name and not name.startswith("_")}
    assert others <= {"carbonmon", "sitecustomize", "distutils-precedence"}
