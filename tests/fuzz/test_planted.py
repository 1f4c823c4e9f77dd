"""What others plant beside the runs of a daemon, in any mixture: not followed, and not written into."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbonmon.service import resumption
from tests.fuzz.folders import scratch
from tests.fuzz.strategies import damaged_bytes
from tests.fuzz.test_node_checkpoint import DATA
from tests.support.effort import examples
from tests.support.planted import PLANTED, left

pytestmark = pytest.mark.timeout(300)

BOOT = "a boot"
RENAMED = [plant for plant in PLANTED if plant.__qualname__.startswith("named")]
OTHERS = [plant for plant in PLANTED if plant not in RENAMED]
FOLDERS = st.lists(
    # A name first: whatever is planted afterwards is not to be written through.
    st.tuples(st.sampled_from([None, *RENAMED]), st.lists(st.sampled_from(OTHERS), max_size=3)).filter(any),
    min_size=1,
    max_size=4,
)


class LivingProcesses:
    """A workload in which every process still runs."""

    def has_process(self, pid: int, start: int) -> bool:
        return True


@pytest.fixture(autouse=True, scope="module")
def unsaid() -> Iterator[None]:
    """Each example has a warning of its own."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


@given(FOLDERS, damaged_bytes(DATA) | st.sampled_from([b"", "link", "folder", "pipe"]))
@examples(100)
def test_no_mixture_is_followed(planted: list[tuple[object, list[object]]], together: bytes | str):
    with scratch() as base:
        output, target = base / "runs", base / "precious"
        target.write_text("as it was")
        own = left(output, "own")
        for number, (renamed, others) in enumerate(planted):
            folder = left(output, f"planted-{number}")
            for plant in (renamed, *others):
                if plant is not None:
                    with suppress(OSError):  # the folder is a link already, or the file is gone
                        plant(folder, target)  # type: ignore[operator]
        file = output / ".checkpoints.host.json"
        if isinstance(together, bytes):
            file.write_bytes(together)
        elif together == "link":
            file.symlink_to(target)
        elif together == "folder":
            file.mkdir()
        else:
            os.mkfifo(file)
        outside = {path: path.read_bytes() for path in base.glob("outside-*/*") if path.is_file()}
        found = resumption.unfinished(output, BOOT, LivingProcesses(), file)  # type: ignore[arg-type]
        resumption.recover(found.over)
        assert [plan.folder for plan in found.living] == [own]
        assert target.read_text() == "as it was"
        assert {path: path.read_bytes() for path in outside} == outside
        assert {path.name for path in base.iterdir()} >= {"runs", "precious"}
        assert not [path for path in base.iterdir() if path.name.startswith(".")]
