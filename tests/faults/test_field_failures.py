"""What went wrong in other tools, one test a failure: none of it may happen here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from carbonmon.core.footprint import Overheads
from carbonmon.core.model import Device, Failure, Intensity, Reading, SensorState
from carbonmon.monitor.guard import GuardedSensor
from carbonmon.monitor.run_account import RunAccount
from carbonmon.monitor.sampler import Sampler
from tests.simulator import Constant, Gpu, Mig, Package, Simulator, Sine, Square
from tests.support.harness import INFO, INTENSITY, FakeClock, FixedIntensity, Monitor, make_sampler

RANGE_UJ = 262_143_328_850


class Scripted:
    """A sensor of one device that says what the test wrote down."""

    name = "scripted"

    def __init__(
        self,
        device: Device,
        says: Iterator[Reading | Failure | Exception],
        clock: FakeClock,
        slow_s: float = 0.0,
    ):
        self._device, self._says, self._clock, self._slow_s = device, says, clock, slow_s

    def devices(self) -> Sequence[Device]:
        return [self._device]

    def sources(self) -> Sequence[SensorState]:
        return [SensorState(self.name, "used", "scripted")]

    def read(self, now_s: float, edge: bool = False) -> Iterator[Reading | Failure]:
        self._clock.time_s += self._slow_s
        said = next(self._says)
        if isinstance(said, Exception):
            raise said
        yield said

    def close(self) -> None:
        pass


def sampler_of(sensor: Scripted, clock: FakeClock, provider: object = None) -> Sampler:
    devices = {device.id: device for device in sensor.devices()}
    sampler = make_sampler(
        [GuardedSensor(sensor)],
        devices,
        [],
        provider or FixedIntensity(),  # type: ignore[arg-type]
        clock,
        1.0,
        Overheads(),
        "test",
    )
    sampler.tick(edge=True)
    sampler.begin(RunAccount(INFO, devices.values()))
    return sampler


def test_a_sensor_that_takes_a_second_to_answer_loses_no_energy():
    clock = FakeClock()
    device = Device("d", "gpu", "slow", methods=("power",))

    def says() -> Iterator[Reading]:
        while True:
            yield Reading("d", power_w=300.0)

    sampler = sampler_of(Scripted(device, says(), clock, slow_s=1.0), clock)
    start_s = clock.time_s
    for _ in range(60):
        clock.time_s += 0.4
        sampler.tick()
    assert sampler.latest.devices[0].energy_j == pytest.approx(300.0 * (clock.time_s - start_s))


def test_a_counter_reset_by_a_driver_reload_gives_no_phantom_and_loses_under_half_a_percent():
    with Simulator(gpus=[Gpu(profile=Constant(300.0))]) as machine, Monitor(machine) as monitor:
        monitor.watch(30)
        machine.reload_driver()
        monitor.watch(90)
        uuid = machine.gpus[0].uuid
        state = monitor.device(uuid)
        assert state.resets == 1
        lost_s = state.unobserved_s
        assert state.energy_j == pytest.approx(monitor.truth_j(uuid) - 300.0 * lost_s, rel=0.005)
        assert lost_s <= 3.0


def test_a_counter_that_wraps_unread_for_2_3_wraps_is_reported_in_seconds_and_not_guessed():
    with Simulator(packages=[Package(profile=Constant(200.0))]) as machine, Monitor(machine) as monitor:
        monitor.watch(10)
        away_s = 2.3 * RANGE_UJ / 1e6 / 200.0
        monitor.look_away(away_s)
        monitor.watch(10)
        state = monitor.device("package-0")
        assert state.energy_j == pytest.approx(200.0 * 19, rel=1e-3)
        assert state.unobserved_s == pytest.approx(away_s + 1.0)


def test_the_interval_is_shortened_where_a_counter_could_wrap_between_two_samples():
    with Simulator(packages=[Package(range_uj=65_000_000_000)]) as machine:
        with Monitor(machine, interval_s=600.0) as monitor:
            assert monitor.sampler.interval_s <= 65_000 / (1.5 * 200.0) / 2, (
                "1.5 times the limit that powercap states"
            )
            assert "could wrap unseen" in monitor.sampler.interval_note


def test_one_failed_read_loses_nothing_because_the_counter_knows():
    package = Package(profile=Constant(120.0), dram=Constant(15.0))
    with Simulator(gpus=[Gpu(profile=Sine(200.0, 100.0, 7.0))], packages=[package]) as machine:
        with Monitor(machine) as monitor:
            monitor.watch(5)
            machine.gpus[0].fault(fail_next_counter_reads=1)
            machine.zones["package-0"].fault(file="garbage")
            monitor.watch(1)
            machine.zones["package-0"].clear()
            monitor.watch(14)
            for device_id in (machine.gpus[0].uuid, "package-0", "dram-0"):
                assert abs(monitor.error_ratio(device_id)) < 0.002
                assert monitor.device(device_id).unobserved_s == 0.0
                assert monitor.device(device_id).counter_j == monitor.device(device_id).energy_j


def test_one_of_two_sockets_wraps_and_neither_loses_anything():
    packages = [
        Package(profile=Constant(150.0), start_uj=RANGE_UJ - 500_000_000),
        Package(profile=Constant(100.0), start_uj=7_000_000_000),
    ]
    with Simulator(packages=packages) as machine, Monitor(machine) as monitor:
        monitor.watch(10)
        assert monitor.device("package-0").energy_j == pytest.approx(1500.0, rel=0.002)
        assert monitor.device("package-1").energy_j == pytest.approx(1000.0, rel=0.002)
        assert monitor.device("package-0").resets == 0


def test_a_fresh_counter_never_lets_a_total_fall():
    with Simulator(packages=[Package(profile=Constant(200.0), start_uj=200_000_000_000)]) as machine:
        with Monitor(machine) as monitor:
            totals = []
            for second in range(10):
                if second == 5:
                    machine.zones["package-0"].fault(reset_at=machine.now_s())
                monitor.watch(1)
                totals.append(monitor.device("package-0").energy_j)
            assert totals == sorted(totals)
            assert totals[-1] == pytest.approx(200.0 * 9, rel=0.005)
            assert (monitor.device("package-0").resets, monitor.device("package-0").unobserved_s) == (1, 1.0)


def test_eight_gpus_are_summed_and_not_averaged():
    with (
        Simulator(gpus=[Gpu(profile=Constant(300.0)) for _ in range(8)]) as machine,
        Monitor(machine) as monitor,
    ):
        monitor.watch(100)
        run = monitor.finish().runs[0]
        assert sum(total.energy_j for total in run.totals) == pytest.approx(240_000.0, rel=0.002)


def test_psys_mmio_and_mirrored_dies_are_counted_once():
    packages = [
        Package(
            profile=Constant(100.0),
            core=Constant(60.0),
            uncore=Constant(10.0),
            mmio=True,
            start_uj=1_000_000,
            die=0,
        ),
        Package(mirrors=0, die=1, socket=0),
    ]
    with Simulator(packages=packages, psys=Constant(180.0)) as machine, Monitor(machine) as monitor:
        monitor.watch(10)
        assert [state.device.id for state in monitor.latest.devices] == ["package-0-die-0"]
        assert monitor.device("package-0-die-0").energy_j == pytest.approx(1000.0, rel=0.002)
        left_out = {source.name for source in monitor.sensors.sources if source.use == "not used"}
        assert {"rapl psys", "rapl mmio", "rapl package-0-die-1"} <= left_out


def test_dies_that_do_not_mirror_one_another_are_both_metered():
    packages = [
        Package(profile=Constant(100.0), start_uj=5_000_000, socket=0, die=0),
        Package(profile=Constant(50.0), start_uj=9_000_000_000, socket=0, die=1),
    ]
    with Simulator(packages=packages) as machine, Monitor(machine) as monitor:
        monitor.watch(10)
        assert monitor.device("package-0-die-0").energy_j == pytest.approx(1000.0, rel=0.002)
        assert monitor.device("package-0-die-1").energy_j == pytest.approx(500.0, rel=0.002)


def test_the_dram_zone_nested_under_the_package_is_read():
    package = Package(profile=Constant(100.0), core=Constant(50.0), uncore=Constant(5.0), dram=Constant(20.0))
    with Simulator(packages=[package]) as machine, Monitor(machine) as monitor:
        monitor.watch(10)
        assert monitor.device("dram-0").energy_j == pytest.approx(200.0, rel=0.002)


def test_one_failing_gpu_among_eight_costs_the_others_nothing():
    with Simulator(gpus=[Gpu(profile=Constant(200.0 + 10 * i)) for i in range(8)]) as machine:
        with Monitor(machine) as monitor:
            monitor.watch(10)
            machine.gpus[3].fault(lost=True)
            monitor.watch(30)
            for gpu in machine.gpus:
                if gpu.place != 3:
                    assert abs(monitor.error_ratio(gpu.uuid)) < 0.002
                    assert monitor.device(gpu.uuid).unobserved_s == 0.0
            machine.gpus[3].clear()
            monitor.watch(60)
            lost = monitor.device(machine.gpus[3].uuid)
            assert abs(monitor.error_ratio(machine.gpus[3].uuid)) < 0.002, "its counter bridged the gap"
            assert lost.unobserved_s == 0.0


def test_a_gpu_that_never_comes_back_leaves_its_seconds_reported():
    with Simulator(gpus=[Gpu(), Gpu()]) as machine, Monitor(machine) as monitor:
        monitor.watch(10)
        machine.gpus[1].fault(lost=True)
        monitor.watch(20)
        final = monitor.finish()
        assert dict(final.runs[0].unobserved_s)[machine.gpus[1].uuid] == pytest.approx(20.0)


MIXED = [Gpu(name="NVIDIA A100-SXM4-80GB", pci_bus=0x80), Gpu(name="NVIDIA A100-SXM4-80GB", pci_bus=0x10)]


@pytest.mark.parametrize(
    ("environ", "place"),
    [
        ({"CUDA_VISIBLE_DEVICES": "0", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, 1),
        ({"CUDA_VISIBLE_DEVICES": "1"}, 0),
        ({"CUDA_VISIBLE_DEVICES": "{uuid0}"}, 0),
        ({"CUDA_VISIBLE_DEVICES": "{uuid1:.12}"}, 1),
        ({"CUDA_VISIBLE_DEVICES": "0,7,1"}, 1),
    ],
)
def test_a_gpu_is_found_by_uuid_by_its_beginning_and_in_pci_order(environ: dict[str, str], place: int):
    with Simulator(gpus=MIXED) as machine:
        uuids = {f"uuid{gpu.place}": gpu.uuid for gpu in machine.gpus}
        filled = {key: value.format(**uuids) for key, value in environ.items()}
        with Monitor(machine, environ=filled) as monitor:
            monitor.watch(10)
            assert [state.device.id for state in monitor.latest.devices] == [machine.gpus[place].uuid]
            assert abs(monitor.error_ratio(machine.gpus[place].uuid)) < 0.003


def test_a_mig_instance_chosen_by_uuid_gets_its_slices_share_and_the_gpu_is_counted_once():
    mig = [Mig(gpu_slices=3, compute_slices=3), Mig(gpu_slices=2, compute_slices=2), Mig()]
    with Simulator(gpus=[Gpu(profile=Constant(350.0), mig=mig)]) as machine:
        gpu = machine.gpus[0]
        chosen = ",".join(gpu.mig_uuids[:2])
        with Monitor(machine, environ={"CUDA_VISIBLE_DEVICES": chosen}) as monitor:
            monitor.watch(20)
            state = monitor.device(gpu.uuid)
            assert state.energy_j == pytest.approx(monitor.truth_j(gpu.uuid), rel=0.002)
            run_j = sum(total.energy_j for total in monitor.latest.runs[0].totals)
            assert run_j == pytest.approx(state.energy_j * 5 / 7)
            assert run_j + state.unattributed_j == pytest.approx(state.energy_j, abs=1e-9)
            assert "3 of 7" in state.device.share_note


def test_an_empty_cuda_visible_devices_means_no_gpu():
    with Simulator(gpus=[Gpu()], packages=[Package()]) as machine:
        with Monitor(machine, environ={"CUDA_VISIBLE_DEVICES": ""}) as monitor:
            assert [state.device.id for state in monitor.latest.devices] == ["package-0"]


def test_a_fault_of_the_monitor_s_own_in_a_sensor_stops_nothing(caplog: pytest.LogCaptureFixture):
    clock = FakeClock()
    device = Device("d", "cpu", "buggy", methods=("counter",), max_power_w=400.0)

    def says() -> Iterator[Reading | Exception]:
        for second in range(20):
            yield (
                ZeroDivisionError("a bug")
                if 5 <= second < 8
                else Reading("d", energy_uj=second * 100_000_000)
            )

    sampler = sampler_of(Scripted(device, says(), clock), clock)  # type: ignore[arg-type]
    for _ in range(19):
        clock.time_s += 1.0
        sampler.tick()
    state = sampler.latest.sensors[0]
    assert sampler.latest.devices[0].energy_j == 1900.0
    assert (state.up, dict(state.errors)) == (True, {"bug": 3})


def test_grams_follow_the_intensity_of_each_interval_and_not_its_mean():
    clock = FakeClock()
    device = Device("d", "gpu", "d", methods=("counter",), max_power_w=1000.0)

    class Swing:
        """100 g/kWh while the device idles, 700 g/kWh while it works."""

        def intensity_at(self, wall_s: float) -> Intensity:
            g_per_kwh = 100.0 if wall_s - clock.wall_offset_s - 1000.0 <= 10.0 else 700.0
            return INTENSITY._replace(g_per_kwh=g_per_kwh, low_g_per_kwh=g_per_kwh, high_g_per_kwh=g_per_kwh)

        def mean_at(self, start_s: float, end_s: float) -> Intensity:
            raise AssertionError("no interval here is longer than the grid's")

        def fetch_errors(self) -> tuple[tuple[str, str, int], ...]:
            return ()

        def close(self) -> None:
            pass

    def says() -> Iterator[Reading]:
        energy_j = 0
        for second in range(21):
            yield Reading("d", energy_uj=energy_j * 1_000_000)
            energy_j += 36 if second < 10 else 720

    sampler = sampler_of(Scripted(device, says(), clock), clock, Swing())
    for _ in range(20):
        clock.time_s += 1.0
        sampler.tick()
    grams = sum(total.emissions_g for total in sampler.latest.runs[0].totals)
    assert grams == pytest.approx((360.0 * 100.0 + 7200.0 * 700.0) / 3.6e6)


def test_power_readings_alone_follow_a_fast_square_wave_at_a_one_second_poll():
    gpus = [Gpu(profile=Square(60.0, 350.0, period_s=0.7)) for _ in range(2)]
    with Simulator(gpus=gpus) as machine:
        for gpu in machine.gpus:
            gpu.fault(no_counter=True)
        with Monitor(machine) as monitor:
            monitor.watch(60)
            for gpu in machine.gpus:
                assert abs(monitor.error_ratio(gpu.uuid)) < 0.02
                assert monitor.device(gpu.uuid).power_j == monitor.device(gpu.uuid).energy_j


def test_the_energy_counter_is_read_at_most_once_a_second_however_short_the_interval():
    with Simulator(gpus=[Gpu(profile=Constant(250.0))]) as machine:
        with Monitor(machine, interval_s=0.1) as monitor:
            before = machine.calls("nvmlDeviceGetTotalEnergyConsumption", gpu=0)
            monitor.watch(20)
            assert machine.calls("nvmlDeviceGetTotalEnergyConsumption", gpu=0) - before <= 21
            monitor.finish()
            assert abs(monitor.error_ratio(machine.gpus[0].uuid)) < 0.002
            assert monitor.device(machine.gpus[0].uuid).power_j == 0.0
