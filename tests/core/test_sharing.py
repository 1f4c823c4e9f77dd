"""Whose joules: the rules of sharing, one by one; docs/use/attribution.md has the first test's example."""

from __future__ import annotations

import pytest

from carbonmon.core import attribution
from carbonmon.core.attribution import EQUAL_NOTE, SM_NOTE, Tally, split_gpu
from carbonmon.core.footprint import Overheads, rates
from carbonmon.core.idle_power import ALL, DynamicPart, dynamic_part
from carbonmon.core.model import Curve, Device, GpuClaim, IdlePolicy, Interval, NodeUsage, ResumePoint, Usage
from carbonmon.core.ports import Roots
from carbonmon.monitor.device_account import DeviceAccount
from carbonmon.monitor.meanwhile import NodeTotals
from carbonmon.monitor.run_account import RunAccount
from carbonmon.monitor.run_attribution import RunAttribution
from carbonmon.runs.series_rows import Moment
from tests.support.harness import INFO, INTENSITY

PROPORTIONAL: dict[str, IdlePolicy] = {"a": "proportional", "b": "proportional"}


def used(
    a_s: float | None, b_s: float | None, busy_s: float | None, capacity_s: float = 16.0
) -> tuple[Tally, Tally]:
    """The tallies around one second in which the runs a and b used so many CPU seconds."""
    before = Tally(10.0)
    usage = NodeUsage(busy_s, capacity_s, {"a": Usage(a_s, {}), "b": Usage(b_s, {})})
    return before, attribution.advance(before, usage, 11.0)


def cpu_ratios(
    before: Tally,
    after: Tally,
    policies: dict[str, IdlePolicy] = PROPORTIONAL,
    dynamic: DynamicPart = ALL,
) -> dict[str, float]:
    found = attribution.cpu_shares(before, after, policies, dynamic)
    return {run_id: share.ratio for run_id, share in found.items()}


# ---- CPUs and memory ----


def test_the_worked_example_of_the_documentation():
    before, after = used(3.0, 1.0, busy_s=5.0)
    assert cpu_ratios(before, after) == {"a": 0.6, "b": 0.2}
    none: dict[str, IdlePolicy] = {"a": "none", "b": "none"}
    idle_40_w = dynamic_part(40.0, 100.0)
    assert cpu_ratios(before, after, none, idle_40_w) == {"a": pytest.approx(0.36), "b": pytest.approx(0.12)}
    assert cpu_ratios(before, after, none) == {"a": 0.6, "b": 0.2}, "while the idle power is unknown"
    mixed: dict[str, IdlePolicy] = {"a": "exclusive", "b": "none"}
    assert cpu_ratios(before, after, mixed, idle_40_w) == {"a": pytest.approx(0.88), "b": pytest.approx(0.12)}
    assert cpu_ratios(before, after, {"a": "exclusive", "b": "proportional"}) == {"a": 0.8, "b": 0.2}


def test_an_idle_process_beside_a_busy_node_gets_nothing_to_speak_of():
    before, after = used(0.001, 15.0, busy_s=15.2)
    assert cpu_ratios(before, after)["a"] < 0.01


def test_on_an_idle_node_nobody_pays_unless_the_node_is_theirs():
    before, after = used(0.0, 0.0, busy_s=0.0)
    assert cpu_ratios(before, after) == {"a": 0.0, "b": 0.0}
    assert cpu_ratios(before, after, {"a": "exclusive", "b": "proportional"}) == {"a": 1.0, "b": 0.0}


def test_two_runs_that_own_the_node_halve_what_is_left():
    before, after = used(1.0, 3.0, busy_s=8.0)
    ratios = cpu_ratios(before, after, {"a": "exclusive", "b": "exclusive"})
    assert ratios == {"a": pytest.approx(0.125 + 0.25), "b": pytest.approx(0.375 + 0.25)}


def test_the_node_was_at_least_as_busy_as_its_runs():
    before, after = used(3.0, 1.0, busy_s=3.9)
    assert cpu_ratios(before, after) == {"a": pytest.approx(0.75), "b": pytest.approx(0.25)}


def test_where_nobody_can_tell_how_busy_the_node_was_the_runs_share_among_themselves():
    before, after = used(3.0, 1.0, busy_s=None, capacity_s=0.0)
    assert cpu_ratios(before, after) == {"a": 0.75, "b": 0.25}


def test_a_run_whose_cpu_time_is_unknown_gets_no_energy_and_the_other_no_more():
    before, after = used(None, 1.0, busy_s=4.0)
    assert cpu_ratios(before, after) == {"a": 0.0, "b": 0.25}


def test_a_run_that_began_after_the_last_settlement_counts_from_its_beginning():
    before = Tally(0.0, 100.0, 400.0, {"a": 50.0})
    usage = NodeUsage(4.0, 4.0, {"a": Usage(1.0, {}), "b": Usage(3.0, {})})
    assert cpu_ratios(before, attribution.advance(before, usage, 1.0)) == {"a": 0.25, "b": 0.75}


def test_a_run_that_began_within_the_time_is_compared_with_what_the_node_used_since_then():
    tallies = [Tally(0.0)]
    for second, runs in ((1.0, {"a": Usage(2.0, {})}), (2.0, {"a": Usage(2.0, {}), "b": Usage(2.0, {})})):
        tallies.append(attribution.advance(tallies[-1], NodeUsage(4.0, 4.0, runs), second))
    assert cpu_ratios(tallies[0], tallies[-1]) == {"a": 0.5, "b": 0.5}


def test_a_run_that_has_ended_is_forgotten():
    before = Tally(0.0, 100.0, 400.0, {"a": 50.0, "gone": 30.0}, {}, {"g": {"gone": 5.0}})
    after = attribution.advance(before, NodeUsage(1.0, 4.0, {"a": Usage(1.0, {})}), 1.0)
    assert set(after.cpu_s) == {"a"}
    assert after.held_s == {"g": {}}


# ---- GPUs ----


def ratios(claims: dict[str, GpuClaim], others_sm: float | None = 0.0) -> dict[str, float]:
    return {run_id: share.ratio for run_id, share in split_gpu(claims, others_sm).items()}


def test_the_only_holder_of_a_gpu_gets_all_of_it_also_when_it_is_idle():
    assert ratios({"a": GpuClaim(note="allocated")}) == {"a": 1.0}
    assert split_gpu({"a": GpuClaim(sm_ratio=0.0, note="allocated")}, 0.0)["a"].note == "allocated"


def test_two_holders_share_by_sm_utilisation():
    found = split_gpu({"a": GpuClaim(sm_ratio=0.6), "b": GpuClaim(sm_ratio=0.2)}, 0.0)
    assert {run_id: share.ratio for run_id, share in found.items()} == {
        "a": pytest.approx(0.75),
        "b": pytest.approx(0.25),
    }
    assert {share.note for share in found.values()} == {SM_NOTE}


@pytest.mark.parametrize("sm_ratio", [None, 0.0])
def test_two_holders_of_whom_nobody_can_tell_share_equally_and_it_says_so(sm_ratio: float | None):
    found = split_gpu({"a": GpuClaim(sm_ratio=sm_ratio), "b": GpuClaim(sm_ratio=sm_ratio)}, 0.0)
    assert {share.ratio for share in found.values()} == {0.5}
    assert {share.note for share in found.values()} == {EQUAL_NOTE}


def test_one_unknown_utilisation_makes_the_split_equal():
    assert ratios({"a": GpuClaim(sm_ratio=0.9), "b": GpuClaim()}) == {"a": 0.5, "b": 0.5}


def test_processes_of_nobody_take_their_part_which_stays_unattributed():
    assert ratios({"a": GpuClaim(sm_ratio=0.3)}, 0.1) == {"a": pytest.approx(0.75)}
    assert ratios({"a": GpuClaim(sm_ratio=0.3)}, None) == {"a": 0.5}


def test_mig_slices_get_their_part_of_the_whole_gpu():
    found = ratios({"a": GpuClaim(2 / 7), "b": GpuClaim(3 / 7)})
    assert found == {"a": pytest.approx(2 / 7), "b": pytest.approx(3 / 7)}


def test_mig_slices_that_two_runs_both_hold_are_not_counted_twice():
    found = ratios({"a": GpuClaim(5 / 7), "b": GpuClaim(5 / 7)})
    assert sum(found.values()) == pytest.approx(1.0)


def test_a_gpu_that_a_run_held_for_a_quarter_of_the_time_is_its_own_for_a_quarter():
    tally = Tally(0.0)
    holding = NodeUsage(0.0, 1.0, {"a": Usage(0.0, {"g": GpuClaim()})})
    idle = NodeUsage(0.0, 1.0, {"a": Usage(0.0, {})})
    after = attribution.advance(tally, holding, 1.0)
    for second in (2.0, 3.0, 4.0):
        after = attribution.advance(after, idle, second)
    assert attribution.gpu_shares(tally, after, "g", PROPORTIONAL)["a"].ratio == pytest.approx(0.25)


def test_without_time_between_two_tallies_nobody_has_a_share_of_a_gpu():
    tally = attribution.advance(Tally(5.0), NodeUsage(0.0, 1.0, {"a": Usage(0.0, {"g": GpuClaim()})}), 5.0)
    assert attribution.gpu_shares(Tally(5.0), tally, "g", PROPORTIONAL) == {}


# ---- the part of an interval ----


def test_a_part_of_an_interval_has_its_methods_power_and_all_of_its_seconds():
    whole = Interval("d", 1.0, 3.0, 8.0, 4.0, 2.0, 7.0, 0.5)
    part = attribution.scale_interval(whole, 0.25)
    assert (part.counter_j, part.power_j, part.tdp_j, part.power_w) == (2.0, 1.0, 0.5, 1.75)
    assert (part.start_s, part.end_s, part.unobserved_s) == (1.0, 3.0, 0.5)
    assert attribution.scale_interval(whole, 1.0) is whole


# ---- a counter of which only a part is this machine's ----


class BusyWorkload:
    """A node that one run keeps busy by itself."""

    def add(self, run_id: str, roots: Roots, since: ResumePoint | None = None) -> None: ...

    def join(self, run_id: str, roots: Roots) -> None: ...

    def remove(self, run_id: str) -> None: ...

    def read(self, now_s: float) -> NodeUsage:
        return NodeUsage(1.0, 2.0, {"run-1": Usage(1.0, {})})

    def resume_points(self) -> dict[str, ResumePoint]:
        return {}

    def close(self) -> None: ...


def test_of_a_host_s_counter_a_container_s_run_gets_its_container_s_share_and_it_is_said():
    whole = Device("package-0", "cpu", "package-0", 0, ("counter",))
    part = whole._replace(id="package-1", share_ratio=0.25, share_note="container: 4 of the host's 16 CPUs")
    runs = RunAttribution(BusyWorkload(), 0.0)
    run = RunAccount(INFO, (whole, part))
    runs.add(run, None)
    runs.look(1.0)
    for device in (whole, part):
        account = DeviceAccount(device)
        interval = Interval(device.id, 0.0, 1.0, counter_j=100.0)
        runs.charge(account, interval, rates(INTENSITY, Overheads()), Moment(1, 1.0), bridged=False)
        assert account.unattributed_j == pytest.approx(100.0 * (1.0 - device.share_ratio))
    notes = dict(run.state(1.0, NodeTotals({})).shares)
    assert "container" not in notes["package-0"]
    assert notes["package-1"] == f"{notes['package-0']}; {part.share_note}"


# ---- intervals that are split where a run begins or ends ----


def test_an_interval_is_split_by_time_and_its_pieces_are_the_whole():
    whole = Interval("d", 10.0, 14.0, 300.0, 60.0, 40.0, power_w=100.0, unobserved_s=1.0)
    first, second, third = attribution.cut_interval(whole, [11.0, 12.0])
    assert [(piece.start_s, piece.end_s) for piece in (first, second, third)] == [
        (10, 11),
        (11, 12),
        (12, 14),
    ]
    assert (first.counter_j, first.power_j, first.tdp_j, first.unobserved_s) == (75.0, 15.0, 10.0, 0.25)
    assert [piece.energy_j for piece in (first, second, third)] == [100.0, 100.0, 200.0]
    assert [piece.power_w for piece in (first, second, third)] == [100.0, 100.0, 100.0]


def test_an_interval_whose_curve_is_known_is_split_by_what_was_drawn():
    curve = Curve((10.0, 11.0, 14.0), (0.0, 300.0, 360.0))
    whole = Interval("d", 10.0, 14.0, 400.0, power_w=100.0, curve=curve)
    first, second = attribution.cut_interval(whole, [11.0])
    assert (first.energy_j, first.power_w) == (
        pytest.approx(400.0 * 300 / 360),
        pytest.approx(100.0 * 4 * 300 / 360),
    )
    assert first.energy_j + second.energy_j == pytest.approx(400.0)


def test_an_interval_without_an_edge_stays_as_it_is():
    whole = Interval("d", 10.0, 10.0, 1.0)
    assert attribution.cut_interval(whole, []) == [whole]
