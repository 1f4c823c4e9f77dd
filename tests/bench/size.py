"""What an installation adds to a bare Python: our files, the dependencies' and what is compiled of both."""

from __future__ import annotations

import importlib.metadata
import py_compile
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import carbonmon_exporters

import carbonmon
from tests.bench.table import DEPENDENCIES, Row, megabytes

TARGET = "≤ 8 MB"
BLOCK_BYTES = 4096


class Size(NamedTuple):
    """Bytes of the files, of their compiled form, and of the blocks that both take on a disk."""

    files: int
    compiled: int
    blocks: int


def rows(quick: bool) -> Iterator[Row]:
    ours = [
        path
        for package in (carbonmon, carbonmon_exporters)
        for path in Path(str(package.__file__)).parent.rglob("*")
    ]
    sizes = {"carbonmon": _size(ours)}
    for name in DEPENDENCIES:
        files = importlib.metadata.distribution(name).files or []
        sizes[name] = _size(Path(str(file.locate())) for file in files)
    parts = ", ".join(f"{name} {(size.files + size.compiled) / 1e6:.2f}" for name, size in sizes.items())
    total = [sum(column) for column in zip(*sizes.values(), strict=True)]
    yield Row(
        "installed size beyond bare Python",
        TARGET,
        megabytes(total[0] + total[1]),
        f"installed files {total[0] / 1e6:.2f} MB and their compiled .pyc {total[1] / 1e6:.2f} MB: {parts}; "
        f"in blocks of 4 KiB {megabytes(total[2])}",
    )


def _size(paths: Iterable[Path]) -> Size:
    files = compiled = blocks = 0
    with tempfile.TemporaryDirectory(prefix="carbonmon-bench-") as folder:
        for path in paths:
            if "__pycache__" in path.parts or not path.is_file():
                continue
            sizes = [path.stat().st_size]
            if path.suffix == ".py":
                sizes.append(_compiled_size(path, Path(folder) / "module.pyc"))
                compiled += sizes[1]
            files += sizes[0]
            blocks += sum(-(-size // BLOCK_BYTES) * BLOCK_BYTES for size in sizes)
    return Size(files, compiled, blocks)


def _compiled_size(source: Path, target: Path) -> int:
    try:
        py_compile.compile(str(source), cfile=str(target), doraise=True)
    except py_compile.PyCompileError:
        return 0  # a file for another Python
    return target.stat().st_size
