"""A specification in run.json, of each release: read by this one, and written as the others read it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from carbonmon.core.model import Device, RunInfo, Spec, Uncertainty
from carbonmon.runs.checked import RunFileError
from carbonmon.runs.layout import run_text
from carbonmon.runs.reader import read_run
from tests.fixtures import record

RUNS = sorted(path.parent for path in Path(record.__file__).parent.glob("runs-*/*/run.json"))
INFO = RunInfo("run-1", "run", ("train",), (), "host", 1_700_000_000.0)
SPEC = Spec(170.0, Uncertainty(0.5, 1.2, "test"), "a table", 1.0)


def kept(folder: Path, spec: Spec) -> dict[str, Any]:
    """What run.json has of a device with this specification."""
    text = run_text(INFO, [Device("package-0", "cpu", "a CPU", 0, ("tdp",), spec=spec)])
    (folder / "run.json").write_text(text)
    (device,) = json.loads(text)["devices"]
    return dict(device)


@pytest.mark.parametrize("folder", RUNS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_devices_of_every_release_are_read(folder: Path):
    _, devices = read_run(folder)
    specs = [device.spec for device in devices if device.spec is not None]
    assert specs and all(spec.idle_w is None and spec.tdp_w > 0.0 for spec in specs)


def test_a_specification_without_a_power_at_no_load_is_one_that_earlier_releases_read(tmp_path: Path):
    assert len(kept(tmp_path, SPEC)["spec"]) == 4
    assert read_run(tmp_path)[1][0].spec == SPEC


def test_a_power_at_no_load_is_kept(tmp_path: Path):
    assert kept(tmp_path, SPEC._replace(idle_w=90.0))["spec"][4] == 90.0
    assert read_run(tmp_path)[1][0].spec == SPEC._replace(idle_w=90.0)


@pytest.mark.parametrize("spec", [[], [170.0, [0.5, 1.2, "x"]], [170.0, [0.5, 1.2], "x"], {"tdp_w": 170.0}])
def test_a_specification_that_lacks_more_is_refused(tmp_path: Path, spec: object):
    device = kept(tmp_path, SPEC) | {"spec": spec}
    document = json.loads((tmp_path / "run.json").read_text()) | {"devices": [device]}
    (tmp_path / "run.json").write_text(json.dumps(document))
    with pytest.raises(RunFileError, match="spec"):
        read_run(tmp_path)
