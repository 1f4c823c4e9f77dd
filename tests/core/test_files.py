"""Whose the files are that root writes."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from carbonmon.core.files import replace_file
from carbonmon.runs import folders
from carbonmon.runs.summary.file import write_summary
from tests.support.planted import PLANTED, left, link_to_a_folder, second_name_of

USER, OTHER = 65533, 65534

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


def test_what_root_writes_into_a_user_s_folder_is_the_user_s(tmp_path: Path):
    os.chown(tmp_path, USER, -1)
    path = tmp_path / "checkpoint.json"
    replace_file(path, b"{}", uid=OTHER)
    assert path.stat().st_uid == USER
    replace_file(path, b"{}", 0o644, for_others=True)
    assert path.stat().st_uid == 0, "in a folder of many users it stays root's"


def test_of_a_run_that_root_keeps_for_a_user_the_summary_is_the_user_s_and_the_rest_is_root_s(tmp_path: Path):
    path = write_summary(tmp_path, {}, USER)
    found = path.stat()
    assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (USER, 0o640)
    replace_file(tmp_path / "checkpoint.json", b"{}")
    assert (tmp_path / "checkpoint.json").stat().st_uid == 0
    assert folders.why_not_ours(tmp_path) == "", "root goes on with it"
    os.chown(tmp_path / "checkpoint.json", USER, -1)
    assert folders.why_not_ours(tmp_path) == f"it is of user {USER}"


LEADING = [plant for plant in PLANTED if plant.__qualname__.startswith(("link_", "second_name_", "pipe_"))]


@pytest.mark.parametrize("plant", LEADING, ids=lambda plant: plant.__qualname__.partition(".")[0])
def test_root_resumes_no_run_of_a_user_who_has_it_lead_elsewhere(
    tmp_path: Path, plant: Callable[[Path, Path], None]
):
    target = tmp_path / "precious"
    target.write_text("as it was")
    folder = left(tmp_path / "runs")
    for path in (folder, *folder.iterdir()):
        os.chown(path, USER, USER)
    assert folders.why_misleading(folder) == "", "a run of another user as it is"
    plant(folder, target)
    os.chown(folder, USER, USER, follow_symlinks=False)
    assert folders.why_misleading(folder)


def test_links_of_our_own_are_followed(tmp_path: Path):
    """A run that was moved to another disk; its files may have second names, as in a backup of links."""
    folder = left(tmp_path / "runs")
    link_to_a_folder(folder, tmp_path / "precious")
    second_name_of("series.jsonl")(folder, tmp_path / "outside-job-1" / "run.json")
    assert folder.is_symlink()
    assert folders.why_misleading(folder) == ""
