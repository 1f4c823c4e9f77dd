"""Which Python package is taken for AMD's library, and what is said of those that are not."""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from carbonmon.core.errors import SensorUnavailable
from carbonmon.core.model import Reading
from carbonmon.core.ports import SensorSettings
from carbonmon.hardware.amdsmi import library, package
from carbonmon.hardware.sensors.amdsmi import open_sensor
from tests.simulator import Constant, Simulator, build, can_build
from tests.simulator.boards import MI300X, MOMENT, amd_gpu
from tests.simulator.rocm import PACKAGE, Rocm, RocmProcess
from tests.support.command import wait_for
from tests.support.rocm import Here, rocm_here

pytestmark = pytest.mark.skipif(not can_build(), reason="the simulator needs gcc")


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Here]:
    yield from rocm_here(monkeypatch, tmp_path)


@pytest.fixture
def machine() -> Iterator[Simulator]:
    with Simulator(chips=[amd_gpu(0, Constant(300.0), model=MI300X, level=MOMENT)]) as simulated:
        simulated.freeze()
        yield simulated


def settings(machine: Simulator) -> SensorSettings:
    return SensorSettings(sysfs=machine.sysfs)


def refusal(machine: Simulator) -> str:
    with pytest.raises(SensorUnavailable) as refused:
        open_sensor(settings(machine))
    return refused.value.reason


def without_the_interpreter_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test environment has the index's package, which ROCm's machines may have as well."""
    monkeypatch.setattr(package.importlib.util, "find_spec", lambda name: None)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import json\njson.loads('{')", "JSONDecodeError"),
        ("def broken(:", "SyntaxError"),
        ("from . import missing", "ImportError"),
        ("raise OSError('libdrm.so.2: cannot open shared object file')", "OSError: libdrm.so.2"),
        ("raise SystemExit(1)", "SystemExit"),
        ("print('\\d')\nraise KeyError('libamd_smi.so')", "KeyError"),
        ("from .interface import *\nNAMES.no_such_function", "AttributeError"),
        ("", "AttributeError"),
    ],
)
def test_whatever_a_package_raises_at_import_is_the_reason(
    code: str, said: str, machine: Simulator, here: Here, monkeypatch: pytest.MonkeyPatch
):
    without_the_interpreter_s(monkeypatch)
    rocm = here(Rocm(machine))
    (rocm.package / "__init__.py").write_text(code)
    text = refusal(machine)
    assert text.startswith(f"{rocm.package}: ")
    assert said in text
    assert package.NAME not in sys.modules


def test_a_package_without_its_library_prints_nothing_for_the_job(
    machine: Simulator, here: Here, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    without_the_interpreter_s(monkeypatch)
    rocm = here(Rocm(machine))
    (rocm.root / "lib" / build.AMDSMI).unlink()
    text = refusal(machine)
    assert "KeyError" in text
    assert "Unable to find libamd_smi.so library" in text
    assert capfd.readouterr().out == ""


def test_a_library_that_is_older_than_the_package_is_the_reason(
    machine: Simulator, here: Here, monkeypatch: pytest.MonkeyPatch
):
    without_the_interpreter_s(monkeypatch)
    rocm = here(Rocm(machine))
    text = (rocm.package / "interface.py").read_text()
    new = text.replace('"amdsmi_init",', '"amdsmi_init",\n    "amdsmi_get_what_is_new",', 1)
    (rocm.package / "interface.py").write_text(new)
    assert "AttributeError" in refusal(machine)
    assert "undefined symbol: amdsmi_get_what_is_new" in refusal(machine)


@pytest.mark.parametrize(
    ("stated", "has"),
    [
        ("26.0.2", (26, 0, 2)),
        ("26.0.2+39589fdf", (26, 0, 2)),
        ("24.6.3.0", (24, 6, 3)),
    ],
)
def test_the_package_of_the_library_s_version_is_taken(
    stated: str, has: tuple[int, int, int], machine: Simulator, here: Here
):
    rocm = here(Rocm(machine, package=stated, library=has))
    with closing(open_sensor(settings(machine))) as sensor:
        texts = {source.name: source.reason for source in sensor.sources()}
        assert texts["amdsmi package"] == f"amdsmi {'.'.join(map(str, has))}, {rocm.package}"


@pytest.mark.parametrize("stated", ["7.0.2", "26.0.1", "26.1", "26.0.20", "", "two"])
def test_a_package_of_another_version_is_refused(
    stated: str, machine: Simulator, here: Here, monkeypatch: pytest.MonkeyPatch
):
    without_the_interpreter_s(monkeypatch)
    rocm = here(Rocm(machine, package=stated))
    own = stated or "of no version"
    assert refusal(machine) == (
        f"{rocm.package}: the package is {own}, the library 26.0.2: only ROCm's own package fits it"
    )
    assert rocm.control.calls == 0, "it was not used for anything"


def test_without_any_package_it_is_said_where_one_would_be(
    machine: Simulator, here: Here, monkeypatch: pytest.MonkeyPatch
):
    without_the_interpreter_s(monkeypatch)
    assert "is neither in" in refusal(machine)


def test_the_newest_of_several_installations_that_fits_is_taken(
    machine: Simulator, here: Here, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    rocm = here(Rocm(machine))
    monkeypatch.setattr(package, "ROOT", tmp_path)
    for name, version in (
        ("rocm-9.4.0", "25.3.0"),
        ("rocm-9.5.1", "26.0.2"),
        ("rocm-10.0.2", "26.0.2"),
        ("rocm-10.1.0", "26.1.0"),
    ):
        shutil.copytree(rocm.package, tmp_path / name / "share/amd_smi/amdsmi")
        (tmp_path / name / "share/amd_smi/amdsmi/version.py").write_text(f"__version__ = {version!r}\n")
    shutil.rmtree(rocm.package)
    used = library.acquire()
    library.release()
    assert used.origin == f"amdsmi 26.0.2, {tmp_path / 'rocm-10.0.2/share/amd_smi/amdsmi'}"


def test_the_library_is_shut_down_after_its_last_user_only(machine: Simulator, here: Here):
    rocm = here(Rocm(machine))
    first = library.acquire()
    assert library.acquire_if_used() is first
    library.release()
    assert rocm.control.shut_downs == 0
    assert len(first.handles()) == 1
    library.release()
    assert rocm.control.shut_downs == 1
    assert library.acquire_if_used() is None


def test_nobody_waits_for_a_library_that_hangs_while_it_starts(
    machine: Simulator, here: Here, tmp_path: Path
):
    rocm = here(Rocm(machine))
    go_on = tmp_path / "go-on"
    with open(rocm.package / "__init__.py", "a") as file:
        file.write(
            "\nimport pathlib, time\n"
            "def amdsmi_init():\n"
            f"    pathlib.Path({str(tmp_path / 'begun')!r}).touch()\n"
            f"    while not pathlib.Path({str(go_on)!r}).exists(): time.sleep(0.01)\n"
        )
    thread = threading.Thread(target=library.acquire)
    thread.start()
    try:
        wait_for(lambda: (tmp_path / "begun").exists() or None, "the start")
        assert library.acquire_if_used() is None
    finally:
        go_on.touch()
        thread.join(30.0)
        library.release()


# ---- the package of the index, as it is ----


@pytest.fixture
def index_s_package(machine: Simulator, here: Here, tmp_path: Path) -> Rocm:
    """No package of ROCm but the one in the test environment, and a library that has all that it binds."""
    rocm = here(Rocm(machine))
    shutil.rmtree(rocm.package)
    wrapper = Path(str(importlib.metadata.distribution("amdsmi").locate_file("amdsmi/amdsmi_wrapper.py")))
    names = set(re.findall(r"_libraries\['libamd_smi\.so'\]\.(\w+)", wrapper.read_text()))
    assert len(names) > 150
    ours = rocm.root / "lib/libsimulated.so"
    (rocm.root / "lib" / build.AMDSMI).rename(ours)
    listed = subprocess.run(["nm", "-D", str(ours)], capture_output=True, text=True, check=True).stdout
    rest = sorted(names - set(re.findall(r" T (\w+)", listed)))
    stubs = "".join(f"int {name}(void) {{ return 2; }}\n" for name in rest)  # AMDSMI_STATUS_NOT_SUPPORTED
    (tmp_path / "stubs.c").write_text(stubs)
    command = ["gcc", "-shared", "-fPIC", "stubs.c", "-Wl,--no-as-needed", str(ours), "-o"]
    subprocess.run([*command, str(rocm.root / "lib" / build.AMDSMI)], cwd=tmp_path, check=True)
    return rocm


def test_the_index_s_package_is_refused_on_rocm_s_library(machine: Simulator, index_s_package: Rocm):
    assert "the package is 7.0.2, the library 26.0.2" in refusal(machine)


ANSWERS = (
    "amdsmi_get_gpu_device_bdf",
    "amdsmi_get_energy_count",
    "amdsmi_get_power_info",
    "amdsmi_get_power_cap_info",
    "amdsmi_get_gpu_activity",
    "amdsmi_get_gpu_process_list",
    "amdsmi_get_gpu_enumeration_info",
    "amdsmi_get_gpu_asic_info",
)


def answers(rocm: Rocm) -> dict[str, Any]:
    """What the package that is found answers of the only card, in the order of `ANSWERS`."""
    rocm.cards[0].set_processes(RocmProcess(pid=4711, compute_units=38, memory_bytes=123_456_789))
    used = library.acquire()
    (handle,) = used.handles()
    found = {function: used.call(function, handle) for function in ANSWERS}
    library.release()
    return found


def test_the_stand_in_answers_as_the_index_s_package_does(
    machine: Simulator, index_s_package: Rocm, monkeypatch: pytest.MonkeyPatch
):
    index_s_package.control.version[:] = (7, 0, 2)
    real = answers(index_s_package)
    shutil.copytree(PACKAGE, index_s_package.package)
    (index_s_package.package / "version.py").write_text("__version__ = '7.0.2'\n")
    stand_in = answers(index_s_package)
    assert real["amdsmi_get_gpu_process_list"][0]["cu_occupancy"] == 38
    assert real["amdsmi_get_power_info"]["current_socket_power"] == 300
    for function, told in stand_in.items():
        if isinstance(told, dict):
            assert {key: real[function][key] for key in told} == told
        else:
            assert real[function] == told


def test_the_sensor_works_with_the_index_s_package_on_a_library_of_its_version(
    machine: Simulator, index_s_package: Rocm
):
    index_s_package.control.version[:] = (7, 0, 2)
    with closing(open_sensor(settings(machine))) as sensor:
        (device,) = sensor.devices()
        (reading,) = sensor.read(0.0)
    assert device.methods == ("counter", "power", "tdp")
    assert isinstance(reading, Reading)
    assert (reading.power_w, reading.utilization_ratio) == (300.0, 0.5)
    drawn_j = machine.channels[device.id].energy_j(machine.clock.epoch_s, machine.now_s())
    assert reading.energy_uj == pytest.approx(4_750_896_266 * 1e6 / 2**16 + drawn_j * 1e6, abs=100)
