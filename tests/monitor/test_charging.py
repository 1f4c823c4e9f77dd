"""What a joule is charged with: the intensity of its interval, PUE, water and money, each with its source."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from carbonmon.core.config import Config
from carbonmon.core.errors import ConfigError
from carbonmon.core.footprint import Overheads, Tariff, rates
from carbonmon.core.model import JOULES_PER_KWH, Device, Intensity, Reading, Snapshot
from carbonmon.core.timeline import Slot, Timeline
from carbonmon.monitor.guard import GuardedSensor
from carbonmon.monitor.meanwhile import NOTHING
from carbonmon.monitor.run_account import RunAccount
from carbonmon.monitor.sampler import Sampler
from carbonmon.runs import layout
from carbonmon.runs.reader import read_checkpoint
from carbonmon.runs.report.markdown import markdown_text
from carbonmon.runs.summary.document import summarize
from carbonmon.runs.summary.text import table_text
from carbonmon.service.open_grid import open_overheads
from tests.monitor.test_sampler import Source
from tests.support import checkpoints
from tests.support.harness import INFO, FakeClock, make_sampler
from tests.support.strictness import strict_schema

HOUR_S = 3600.0
POWER_W = 360.0
WALL_0_S = 1_700_000_000.0 + 1000.0
"""Unix time at which the fake clock begins."""


def figure(g_per_kwh: float, kind: str = "live") -> Intensity:
    return Intensity(g_per_kwh, g_per_kwh, g_per_kwh, "DE", "test", kind)  # type: ignore[arg-type]


class Curve:
    """An intensity in slots, live until a given time and stale after it."""

    def __init__(self, timeline: Timeline, stale_from_s: float = float("inf")) -> None:
        self.timeline = timeline
        self.stale_from_s = stale_from_s
        self.fails = False
        self.closed = 0

    def intensity_at(self, wall_s: float) -> Intensity:
        if self.fails:
            raise RuntimeError("a bug of a third party")
        slot = self.timeline.at(wall_s)
        assert slot is not None
        return figure(slot.value, "stale" if wall_s >= self.stale_from_s else "live")

    def mean_at(self, start_s: float, end_s: float) -> Intensity:
        return figure(self.timeline.mean(start_s, end_s, lambda *_: float("nan")))

    def fetch_errors(self) -> tuple[tuple[str, str, int], ...]:
        return (("test", "timeout", 3),)

    def close(self) -> None:
        self.closed += 1


def hourly(*values: float) -> Timeline:
    return Timeline(
        Slot(WALL_0_S + hour * HOUR_S, WALL_0_S + (hour + 1) * HOUR_S, value)
        for hour, value in enumerate(values)
    )


DEVICE = Device("d", "gpu", "d", methods=("counter",), max_power_w=1000.0)


def sampler_with(
    provider: Curve, clock: FakeClock, overheads: Overheads | None = None, interval_s: float = 1.0
) -> Sampler:
    """One device that draws 360 W, metered by a counter, and a run that owns it."""

    def say(now_s: float) -> list[Reading]:
        return [Reading("d", energy_uj=round((now_s - 1000.0) * POWER_W * 1e6))]

    source = Source([DEVICE], say)
    sensors, charged = [GuardedSensor(source)], overheads or Overheads()
    sampler = make_sampler(sensors, {"d": DEVICE}, [], provider, clock, interval_s, charged, "test")
    sampler.tick(edge=True)
    sampler.begin(RunAccount(INFO, [DEVICE]))
    return sampler


def watch(sampler: Sampler, clock: FakeClock, steps: int, step_s: float = 1.0) -> None:
    for _ in range(steps):
        clock.time_s += step_s
        sampler.tick(publish=False)


def grams_of(snapshot: Snapshot) -> float:
    return sum(row.emissions_g for row in snapshot.runs[0].totals)


def test_grams_follow_an_hourly_curve_within_two_thousandths() -> None:
    clock = FakeClock()
    curve = [100.0, 700.0, 50.0, 400.0]
    sampler = sampler_with(Curve(hourly(*curve, 400.0)), clock, interval_s=10.0)
    watch(sampler, clock, 4 * 360, step_s=10.0)
    truth_g = sum(curve) * POWER_W * HOUR_S / JOULES_PER_KWH
    assert grams_of(sampler.finish(0, None)) == pytest.approx(truth_g, rel=0.002)


def test_a_long_silence_is_charged_with_the_mean_of_what_was_in_force_meanwhile() -> None:
    clock = FakeClock()
    sampler = sampler_with(Curve(hourly(100.0, 700.0, 100.0)), clock)
    clock.time_s += 2 * HOUR_S  # a machine that slept; its counter went on
    sampler.tick()
    truth_g = (100.0 + 700.0) * POWER_W * HOUR_S / JOULES_PER_KWH
    assert grams_of(sampler.latest) == pytest.approx(truth_g, rel=1e-6)


def test_every_joule_is_listed_with_the_kind_of_intensity_that_it_was_charged_with() -> None:
    clock = FakeClock()
    sampler = sampler_with(Curve(hourly(100.0, 300.0), stale_from_s=WALL_0_S + 60.0), clock)
    watch(sampler, clock, 100)
    final = sampler.finish(0, None)
    (run,) = final.runs
    by_kind = {charge.kind: charge for charge in run.charges}
    assert by_kind["live"].energy_j == pytest.approx(59 * POWER_W)
    assert by_kind["stale"].energy_j == pytest.approx(41 * POWER_W)
    assert sum(charge.energy_j for charge in run.charges) == pytest.approx(100 * POWER_W)
    assert sum(charge.emissions_g for charge in run.charges) == pytest.approx(grams_of(final))


def test_a_summary_names_the_intensity_of_most_of_the_energy_and_lists_all() -> None:
    clock = FakeClock()
    sampler = sampler_with(Curve(hourly(100.0, 300.0), stale_from_s=WALL_0_S + 90.0), clock)
    watch(sampler, clock, 100)
    final = sampler.finish(0, None)
    assert final.intensity.kind == "stale", "what is in force now is not what the run was charged with"
    summary = summarize(final, final.runs[0], "final")
    jsonschema.validate(summary, strict_schema())
    assert summary["carbon"]["intensity"]["kind"] == "live"
    assert [source["kind"] for source in summary["carbon"]["sources"]] == ["live", "stale"]
    assert "charged with: 89.0 % live (test); 11.0 % stale (test)" in table_text(summary)
    summary["carbon"]["sources"][1]["zone"] = "FR"
    assert "charged with: 89.0 % DE, live (test); 11.0 % FR, stale (test)" in table_text(summary)


def test_a_provider_that_fails_in_mid_run_leaves_its_last_figure_called_stale(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = FakeClock()
    provider = Curve(hourly(100.0, 300.0))
    sampler = sampler_with(provider, clock)
    watch(sampler, clock, 10)
    provider.fails = True
    with caplog.at_level(logging.WARNING):
        watch(sampler, clock, 10)
    assert len(caplog.records) == 1
    provider.fails = False
    watch(sampler, clock, 10)
    final = sampler.finish(0, None)
    kinds = {charge.kind: charge.energy_j for charge in final.runs[0].charges}
    assert kinds == {"live": pytest.approx(20 * POWER_W), "stale": pytest.approx(10 * POWER_W)}
    assert final.fetch_errors == (("test", "timeout", 3), ("intensity", "bug", 10))
    assert final.intensity.kind == "live"


def test_another_source_and_another_pue_are_taken_from_a_moment_on() -> None:
    clock = FakeClock()
    old, new = Curve(hourly(100.0)), Curve(hourly(200.0))
    sampler = sampler_with(old, clock)
    watch(sampler, clock, 10)
    sampler.rates.replace(new, Overheads(pue_ratio=1.5), clock.wall_s()).close()
    assert (old.closed, new.closed) == (1, 0)
    watch(sampler, clock, 10)
    truth_g = 10 * POWER_W * (100.0 + 200.0 * 1.5) / JOULES_PER_KWH
    assert grams_of(sampler.finish(0, None)) == pytest.approx(truth_g)


def test_money_follows_the_tariff_of_the_moment_with_pue_and_may_be_earned() -> None:
    clock = FakeClock()
    tariff = Tariff("EUR", None, hourly(0.40, -0.10), "file prices.csv")
    overheads = Overheads(pue_ratio=1.2, tariff=tariff)
    sampler = sampler_with(Curve(hourly(100.0, 100.0, 100.0)), clock, overheads, interval_s=10.0)
    watch(sampler, clock, 3 * 360, step_s=10.0)
    final = sampler.finish(0, None)
    (cost,) = final.runs[0].costs
    kwh_an_hour = POWER_W * HOUR_S / JOULES_PER_KWH
    assert cost.amount == pytest.approx(1.2 * kwh_an_hour * (0.40 - 0.10), rel=0.01)
    assert cost.priced_j == pytest.approx(2 * POWER_W * HOUR_S, rel=0.01), (
        "the third hour has no price: not 0"
    )
    summary = summarize(final, final.runs[0], "final")
    jsonschema.validate(summary, strict_schema())
    assert summary["costs"][0]["priced_ratio"] == pytest.approx(2 / 3, abs=0.01)
    assert "price known for 66.6 % of the energy" in table_text(summary)


def test_water_is_the_energy_of_the_devices_times_the_wue_without_pue() -> None:
    clock = FakeClock()
    overheads = Overheads(1.5, "user", wue_l_per_kwh=0.3, wue_source="user")
    sampler = sampler_with(Curve(hourly(100.0)), clock, overheads)
    watch(sampler, clock, 100)
    final = sampler.finish(0, None)
    assert final.runs[0].water_l == pytest.approx(100 * POWER_W / JOULES_PER_KWH * 0.3)
    assert "WUE 0.3 l/kWh" in table_text(summarize(final, final.runs[0], "final"))


def change_overheads(sampler: Sampler, overheads: Overheads) -> None:
    sampler.rates.replace(Curve(hourly(100.0)), overheads, sampler.clock.wall_s()).close()


def test_a_pue_that_changed_is_stated_as_its_mean_and_the_intensity_stays_the_grid_s() -> None:
    clock = FakeClock()
    sampler = sampler_with(Curve(hourly(100.0)), clock, Overheads(1.0))
    watch(sampler, clock, 30)
    change_overheads(sampler, Overheads(2.0, "user"))
    watch(sampler, clock, 10)
    final = sampler.finish(0, None)
    carbon = summarize(final, final.runs[0], "final")["carbon"]
    assert carbon["pue"] == pytest.approx(1.25)
    assert carbon["pue_source"] == "the mean over the energy; at last 2 (user)"
    assert carbon["intensity"]["mean_g_per_kwh"] == pytest.approx(100.0)
    assert carbon["emissions_g"] == pytest.approx((30 + 2 * 10) * POWER_W * 100.0 / JOULES_PER_KWH)


def test_a_pue_that_does_not_change_is_stated_exactly() -> None:
    clock = FakeClock()
    sampler = sampler_with(Curve(hourly(100.0)), clock, Overheads(1.1, "user"), interval_s=0.3)
    watch(sampler, clock, 1000, step_s=0.3)
    final = sampler.finish(0, None)
    carbon = summarize(final, final.runs[0], "final")["carbon"]
    assert (carbon["pue"], carbon["pue_source"]) == (1.1, "user")


def test_water_that_is_known_for_a_part_of_the_energy_says_so() -> None:
    clock = FakeClock()
    sampler = sampler_with(Curve(hourly(100.0)), clock)
    watch(sampler, clock, 30)
    change_overheads(sampler, Overheads(wue_l_per_kwh=0.5, wue_source="user"))
    watch(sampler, clock, 10)
    final = sampler.finish(0, None)
    summary = summarize(final, final.runs[0], "final")
    jsonschema.validate(summary, strict_schema())
    water = summary["water"]
    assert water["litres"] == pytest.approx(10 * POWER_W / JOULES_PER_KWH * 0.5)
    assert (water["known_ratio"], water["wue_l_per_kwh"]) == (pytest.approx(0.25), 0.5)
    assert "WUE known for 25.0 % of the energy" in table_text(summary)
    assert "WUE known for 25.0 % of the energy" in markdown_text(summary)


def test_what_could_not_be_fetched_is_counted_on_when_the_source_changes() -> None:
    clock = FakeClock()
    sampler = sampler_with(Curve(hourly(100.0)), clock)
    change_overheads(sampler, Overheads())
    sampler.tick()
    assert sampler.latest.fetch_errors == (("test", "timeout", 6),)


def test_a_new_source_that_fails_at_once_leaves_the_old_one_in_force() -> None:
    clock = FakeClock()
    old, new = Curve(hourly(100.0)), Curve(hourly(100.0))
    new.fails = True
    sampler = sampler_with(old, clock)
    with pytest.raises(RuntimeError):
        sampler.rates.replace(new, Overheads(2.0), clock.wall_s())
    watch(sampler, clock, 10)
    final = sampler.finish(0, None)
    assert grams_of(final) == pytest.approx(10 * POWER_W * 100.0 / JOULES_PER_KWH)


def test_without_a_price_or_a_wue_nothing_is_said_of_money_or_water() -> None:
    clock = FakeClock()
    sampler = sampler_with(Curve(hourly(100.0)), clock)
    watch(sampler, clock, 10)
    final = sampler.finish(0, None)
    assert final.runs[0].costs == ()
    assert final.runs[0].water_l is None
    summary = summarize(final, final.runs[0], "final")
    assert (summary["water"], summary["costs"]) == (None, [])


def resumed(tmp_path: Path, change: Callable[[dict[str, object]], object] = lambda _: None) -> Snapshot:
    """What another monitor reads of a run with charges, money and water, after a change of its checkpoint."""
    clock = FakeClock()
    overheads = Overheads(1.1, "user", 0.3, "user", Tariff("EUR", -0.25, source="user"))
    sampler = sampler_with(Curve(hourly(100.0)), clock, overheads)
    watch(sampler, clock, 10)
    snapshot = sampler.finish(0, None)
    (tmp_path / layout.RUN_FILE).write_text(layout.run_text(INFO, [DEVICE]))
    document = json.loads(layout.checkpoint_text(snapshot, snapshot.runs[0], "boot"))
    change(document)
    checkpoints.write(tmp_path, json.dumps(document))
    return read_checkpoint(tmp_path).snapshot


def test_a_checkpoint_keeps_charges_money_and_water(tmp_path: Path) -> None:
    read = resumed(tmp_path)
    (run,) = read.runs
    (charge,), (cost,) = run.charges, run.costs
    assert charge.energy_j == cost.priced_j == pytest.approx(10 * POWER_W)
    assert charge.emissions_g == pytest.approx(10 * POWER_W * 100.0 * 1.1 / JOULES_PER_KWH)
    assert cost.amount == pytest.approx(-0.25 * 1.1 * 10 * POWER_W / JOULES_PER_KWH)
    assert run.water_l == pytest.approx(10 * POWER_W / JOULES_PER_KWH * 0.3)
    assert (read.pue_source, read.wue_l_per_kwh, read.currency) == ("user", 0.3, "EUR")
    account = RunAccount(INFO, [DEVICE])
    account.restore(run, 0.0, 0.0, same_boot=False)
    assert account.state(0.0, NOTHING).charges == run.charges
    assert account.state(0.0, NOTHING).costs == run.costs
    assert account.state(0.0, NOTHING).watered_j == run.watered_j == charge.energy_j
    assert account.state(0.0, NOTHING).facility_j == run.facility_j == pytest.approx(1.1 * charge.energy_j)


LATER_KEYS = (
    *("charges", "costs", "water_l", "watered_j", "facility_j"),
    *("pue_source", "wue_l_per_kwh", "currency"),
)


def test_a_checkpoint_of_an_earlier_version_was_charged_with_what_was_in_force_and_has_no_money(
    tmp_path: Path,
) -> None:
    def forget(document: dict[str, object]) -> None:
        for key in LATER_KEYS:
            del document[key]

    read = resumed(tmp_path, forget)
    (run,) = read.runs
    (charge,) = run.charges
    now = read.intensity
    assert charge[:6] == (now.source, now.zone, now.kind, now.basis, now.accounting, now.year)
    energy_j = sum(row.energy_j for row in run.totals)
    assert charge.energy_j == energy_j > 0
    assert charge.emissions_g == sum(row.emissions_g for row in run.totals)
    assert (run.costs, run.water_l, run.watered_j) == ((), None, None)
    assert run.facility_j == pytest.approx(energy_j * read.pue_ratio)


def test_a_run_of_an_earlier_version_that_goes_on_elsewhere_keeps_where_its_energy_was_charged(
    tmp_path: Path,
) -> None:
    def forget(document: dict[str, object]) -> None:
        for key in LATER_KEYS:
            del document[key]

    read = resumed(tmp_path, forget)
    live = Intensity(1.0, 1.0, 1.0, "GB", "uk", "live", "direct")
    carbon = summarize(read._replace(intensity=live), read.runs[0], "recovered")["carbon"]
    assert carbon["intensity"]["source"] == read.intensity.source != "uk"


@pytest.mark.parametrize("row", [["EUR", "much", 1.0], ["EUR", 1.0], ["EUR", 1e40, 1.0], ["EUR", 1.0, -1.0]])
def test_a_damaged_cost_is_named(tmp_path: Path, row: list[object]) -> None:
    with pytest.raises(ConfigError, match=r"checkpoint\.json: costs\[0\]"):
        resumed(tmp_path, lambda document: document.update(costs=[row]))


def test_a_price_needs_a_currency() -> None:
    with pytest.raises(ConfigError, match="--currency EUR"):
        open_overheads(Config(price_per_kwh=0.3))


def test_rates_add_the_pue_to_grams_and_money_and_not_to_water() -> None:
    found = rates(figure(360.0), Overheads(1.5, "", 1.8, "", Tariff("EUR", 0.36)), 0.36)
    assert found.grams == pytest.approx(360.0 * 1.5 / JOULES_PER_KWH)
    assert found.cost == pytest.approx(0.36 * 1.5 / JOULES_PER_KWH)
    assert found.litres == pytest.approx(1.8 / JOULES_PER_KWH)


def test_a_mean_price_over_a_hole_is_unknown() -> None:
    tariff = Tariff("EUR", None, hourly(0.1, 0.3))
    assert tariff.over(WALL_0_S, WALL_0_S + 2 * HOUR_S) == pytest.approx(0.2)
    assert tariff.over(WALL_0_S, WALL_0_S + 3 * HOUR_S) is None
    assert tariff.at(WALL_0_S - 1.0) is None
