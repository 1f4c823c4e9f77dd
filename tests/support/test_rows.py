"""A test over a table reports each row that fails, and no table is passed over."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.rows import for_each_row

ROOT = Path(__file__).parents[2]
TESTS = """
import pytest
from tests.support.rows import for_each_row

seen = []

@pytest.fixture
def limit():
    return 2

@for_each_row(("number", "name"), [(1, "one"), (2, "two"), (3, "three"), (0, "none"), (4, "four")])
def test_of_pairs(limit, number, name):
    seen.append(number)
    assert 0 < number <= limit, "too much"
    assert name

def test_all_were_seen():
    assert seen == [1, 2, 3, 0, 4]

@for_each_row("number", [1, 0, "x"])
def test_of_single_values(number):
    with pytest.raises(ZeroDivisionError):
        1 / number
"""


def test_each_failing_row_is_named_and_the_others_run(tmp_path: Path) -> None:
    path = tmp_path / "test_inner.py"
    path.write_text(TESTS)
    words = ["-m", "pytest", "-p", "no:cacheprovider", "--rootdir", str(ROOT), "-rA", str(path)]
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout
    failed = [line.partition("] ")[0] for line in done.stdout.splitlines() if line.startswith("SUBFAILED[")]
    assert failed == [
        "SUBFAILED[number=3, name='three'",
        "SUBFAILED[number=0, name='none'",
        "SUBFAILED[number=4, name='four'",
        "SUBFAILED[number=1",
        "SUBFAILED[number='x'",
    ]
    assert "contains 3 failed subtests" in done.stdout
    assert "1 passed" in done.stdout


def test_a_table_without_rows_is_an_error() -> None:
    with pytest.raises(ValueError, match="no rows for name"):
        for_each_row("name", [])
