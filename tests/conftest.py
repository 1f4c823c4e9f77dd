"""What holds for every test: its order and its worker, loggers left alone, nothing skipped in CI."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import settings

from tests.support.effort import USUAL, part_of
from tests.support.left_behind import left_behind
from tests.support.scheduling import BySharedMachine, longest_first

os.environ.setdefault("CARBONMON_DATA", "package")  # not what a developer has put into the user's folder

# jsonschema would build a grammar of IRIs, a second in each worker; no schema of ours has one.
sys.modules["rfc3987_syntax"] = ModuleType("rfc3987_syntax")

# What a shell starts in the background ignores SIGINT (POSIX, "Asynchronous Lists"): so would our jobs.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# These machines are noisy: no test is about time.
settings.register_profile("carbonmon", deadline=None, max_examples=part_of(USUAL))
settings.load_profile("carbonmon")

ENDS_WITHIN_S = 30.0
"""So long a busy machine may take to end a thread or a process."""


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Shorten the folders of a worker: a socket's path has 107 bytes at most, and tests put sockets there."""
    if hasattr(config, "workerinput"):
        folder = Path(config.option.basetemp)
        config.option.basetemp = str(folder.with_name(folder.name.removeprefix("popen-g")))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> BySharedMachine:
    return BySharedMachine(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    longest_first(items)


def pytest_collection_finish() -> None:
    """Leave what was collected out of what Python looks for garbage in: that took half a second a time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def loggers_stay_as_they_are() -> Iterator[None]:
    """Commands that run in the test's own process set carbonmon's log up; the next test wants to hear it."""
    names = ("carbonmon", "carbonmon_exporters", "opentelemetry")
    loggers = [logging.getLogger(name) for name in names]
    before = [(logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    yield
    for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
        logger.handlers[:], logger.propagate = handlers, propagate
        logger.setLevel(level)


@pytest.fixture(autouse=True, scope="module")
def nothing_goes_on_after_its_module(request: pytest.FixtureRequest) -> Iterator[None]:
    """What a module's tests began has ended with it: else it disturbs the tests after it, which are blamed.

    End-to-end tests have processes of their own, and each of them may be the last one of a worker.
    """
    if request.path.is_relative_to(Path(__file__).parent / "e2e"):
        yield
        return
    before = left_behind()
    yield
    deadline_s = time.monotonic() + ENDS_WITHIN_S
    while left := left_behind() - before:
        if time.monotonic() > deadline_s:
            pytest.fail(f"{request.path.name} leaves behind: {', '.join(sorted(left))}")
        gc.collect()
        time.sleep(0.01)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skipped test into a failure where CI is set: there everything is there that tests need."""
    report = yield
    if report.skipped and os.environ.get("CI") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI, where it must run: {report.longrepr}"
    return report
