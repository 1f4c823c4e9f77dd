"""Whatever stands in the files of hwmon, the sensor opens or says why not, and reads on."""

from __future__ import annotations

import tempfile
from contextlib import closing
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from carbonmon.core.errors import SensorUnavailable
from carbonmon.core.model import Failure, Reading
from carbonmon.core.ports import SensorSettings
from carbonmon.hardware import unmetered
from carbonmon.hardware.sensors import hwmon
from tests.simulator import Constant, boards
from tests.simulator.hwmon import Hwmon
from tests.support.effort import examples

POWER = Constant(100.0)
CHIPS = [
    boards.amd_gpu(0, POWER),
    boards.amd_gpu(1, POWER, model=boards.RYZEN, is_integrated=True),
    boards.intel_gpu(2, POWER, POWER),
    *boards.grace(0, module=POWER, grace=POWER, cpu=POWER, sysio=POWER),
    boards.orin_nano(POWER, POWER, POWER),
    boards.hsmp(0, POWER),
    boards.tx2(POWER, POWER, POWER)[1],
]

contents = st.one_of(
    st.binary(max_size=80),
    st.sampled_from(
        [b"", b"N/A", b"-1", b"4294967295", b"9" * 30, b"1e9", b"+5", b"0x10", b"\xd9\xa3", b"active"]
    ),
    st.sampled_from(
        [b"card", b"pkg", b"Module Power Socket 999", b"VDD_IN", b"0x1002", b"suspended", b"D3cold"]
    ),
)


@examples(120)
@given(data=st.data())
def test_no_content_of_a_file_is_a_crash(data: st.DataObject):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        machine = Hwmon(root, CHIPS)
        for zone in machine.zones():
            (root / zone.path / zone.file).write_text("100000000\n")
        files = sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
        broken = data.draw(st.lists(st.sampled_from(files), max_size=12, unique=True))
        for path in broken:
            path.write_bytes(data.draw(contents))
        for path in data.draw(st.lists(st.sampled_from(files), max_size=3, unique=True)):
            path.unlink()
            path.mkdir()
        sysfs = SensorSettings(sysfs=root, procfs=root / "proc")
        assert all(source.reason for source in unmetered.sources(root, []))
        try:
            sensor = hwmon.open_sensor(sysfs)
        except SensorUnavailable as refused:
            assert refused.reason
            return
        with closing(sensor):
            devices = {device.id: device for device in sensor.devices()}
            assert len(devices) == len(sensor.devices())
            for second in range(3):
                said = list(sensor.read(100.0 + second))
                assert [each.device_id for each in said] == list(devices)
                assert all(
                    isinstance(each, Reading) or (isinstance(each, Failure) and each.detail) for each in said
                )
