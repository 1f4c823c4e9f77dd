"""What live sources said, on disk: for the next run, and never believed when it is not plainly right."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from carbonmon.core.timeline import Slot, Timeline
from carbonmon.grid.cache import SCHEMA, Cache, CachedFigures, cache_folder
from tests.support.gridsources import HOUR_S, NOON_S, ScriptedSource

CACHED = CachedFigures(
    Timeline(
        [Slot(NOON_S, NOON_S + HOUR_S, 100.5, "live", "estimated"), Slot(NOON_S + HOUR_S, NOON_S + 9e3, 0.0)]
    ),
    NOON_S + 5.25,
    NOON_S + HOUR_S,
)


def the_file(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


def same(cached: CachedFigures | None) -> bool:
    return cached is not None and (tuple(cached.timeline.slots), cached[1:]) == (
        tuple(CACHED.timeline.slots),
        CACHED[1:],
    )


def test_what_was_saved_comes_back_for_the_same_source_alone(tmp_path: Path):
    cache = Cache(tmp_path)
    cache.save(ScriptedSource("uk", "13"), CACHED)
    assert same(cache.load(ScriptedSource("uk", "13"), NOON_S + 10))
    assert cache.load(ScriptedSource("uk", "1"), NOON_S + 10) is None
    assert cache.load(ScriptedSource("dk", "13"), NOON_S + 10) is None
    direct = ScriptedSource("uk", "13")
    direct.basis = "direct"
    assert cache.load(direct, NOON_S + 10) is None


def test_the_folder_is_made_and_only_the_user_can_read_the_file(tmp_path: Path):
    folder = tmp_path / "a" / "carbonmon"
    Cache(folder).save(ScriptedSource(), CACHED)
    assert stat.S_IMODE(the_file(folder).stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("zone", ["../../etc/passwd", "a/b", "", "x" * 500, "Ü \n", "\udce9", "."])
def test_a_zone_cannot_lead_out_of_the_folder(tmp_path: Path, zone: str):
    source = ScriptedSource("third party", zone)
    cache = Cache(tmp_path / "cache")
    cache.save(source, CACHED)
    assert the_file(tmp_path / "cache").is_file()
    assert list(tmp_path.iterdir()) == [tmp_path / "cache"]
    assert same(cache.load(source, NOON_S + 10))


def test_zones_that_look_alike_have_files_of_their_own(tmp_path: Path):
    for zone in ("a/b", "a_b", "a b"):
        Cache(tmp_path).save(ScriptedSource("x", zone), CACHED)
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"[" * 100_000,
        b" " * (5 << 20),
    ],
)
def test_a_damaged_file_is_as_good_as_none_and_is_replaced(tmp_path: Path, content: bytes):
    cache, source = Cache(tmp_path), ScriptedSource()
    cache.save(source, CACHED)
    the_file(tmp_path).write_bytes(content)
    assert cache.load(source, NOON_S + 10) is None
    cache.save(source, CACHED)
    assert same(cache.load(source, NOON_S + 10))


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "carbonmon.grid-cache/2"},
        {"zone": "FR"},
        {"basis": None},
        {"asked_s": "noon"},
        {"asked_s": None},
        {"asked_s": float("nan")},
        {"due_s": float("inf")},
        {"slots": None},
        {"slots": [[NOON_S, NOON_S + 1, 5]]},
        {"slots": [[NOON_S, NOON_S, 5, "live", ""]]},
        {"slots": [[NOON_S, NOON_S + 1, -5, "live", ""]]},
        {"slots": [[NOON_S, NOON_S + 1, 5001, "live", ""]]},
        {"slots": [[NOON_S, NOON_S + 1, float("nan"), "live", ""]]},
        {"slots": [[NOON_S, NOON_S + 1, 5, "measured", ""]]},
        {"slots": [[NOON_S, NOON_S + 1, 5, "live", 5]]},
        {"slots": [[NOON_S, NOON_S + 2, 5, "live", ""], [NOON_S + 1, NOON_S + 3, 5, "live", ""]]},
    ],
)
def test_a_file_with_anything_impossible_in_it_is_not_believed(tmp_path: Path, change: dict[str, object]):
    cache, source = Cache(tmp_path), ScriptedSource()
    cache.save(source, CACHED)
    path = the_file(tmp_path)
    document = json.loads(path.read_bytes())
    assert document["schema"] == SCHEMA
    path.write_text(json.dumps({**document, **change}))
    assert cache.load(source, NOON_S + 10) is None


def test_a_file_from_the_future_says_nothing_after_the_clock_was_set_back(tmp_path: Path):
    cache = Cache(tmp_path)
    cache.save(ScriptedSource(), CACHED)
    assert cache.load(ScriptedSource(), NOON_S - 3600) is None
    assert same(cache.load(ScriptedSource(), NOON_S - 10)), "clocks that share a folder differ a little"


def test_a_pipe_in_its_place_is_not_waited_for(tmp_path: Path):
    cache = Cache(tmp_path)
    cache.save(ScriptedSource(), CACHED)
    path = the_file(tmp_path)
    path.unlink()
    os.mkfifo(path)
    assert cache.load(ScriptedSource(), NOON_S + 10) is None


def test_a_folder_that_cannot_be_written_costs_nothing_but_the_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    (tmp_path / "file").write_text("")
    cache = Cache(tmp_path / "file" / "carbonmon")
    cache.save(ScriptedSource(), CACHED)
    assert cache.load(ScriptedSource(), NOON_S + 10) is None
    assert not caplog.records, "it is said at the level debug alone"


def test_without_a_folder_nothing_is_kept():
    cache = Cache(None)
    cache.save(ScriptedSource(), CACHED)
    assert cache.load(ScriptedSource(), NOON_S + 10) is None


@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({"XDG_CACHE_HOME": "/c", "HOME": "/h"}, "/c/carbonmon"),
        ({"HOME": "/h"}, "/h/.cache/carbonmon"),
        ({"XDG_CACHE_HOME": "", "HOME": "/h"}, "/h/.cache/carbonmon"),
        ({"XDG_CACHE_HOME": "relative", "HOME": "/h"}, "/h/.cache/carbonmon"),
        ({}, None),
        ({"HOME": ""}, None),
    ],
)
def test_the_folder_is_where_the_user_s_caches_are(environ: dict[str, str], folder: str | None):
    assert cache_folder(environ) == (None if folder is None else Path(folder))


def test_what_another_server_says_is_kept_apart(tmp_path: Path):
    home = {"HOME": str(tmp_path)}
    mirror = home | {"CARBONMON_UK_URL": "https://mirror.example"}
    folders = [
        cache_folder(environ)
        for environ in (home, mirror, mirror | {"CARBONMON_UK_URL": "https://b.example"})
    ]
    assert folders[0] == tmp_path / ".cache" / "carbonmon"
    assert len(set(folders)) == 3
    assert cache_folder(mirror) == folders[1]
    assert cache_folder(home | {"CARBONMON_UK_URL": ""}) == folders[0]
