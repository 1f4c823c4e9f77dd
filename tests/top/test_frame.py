"""What a frame says of a monitor, at every size and state."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbonmon.core.text_layout import columns_of
from carbonmon.top.cells import ASCII
from carbonmon.top.document import Document
from carbonmon.top.view import View
from carbonmon.top.watch import obey
from tests.support import page_states
from tests.support.page_states import later
from tests.support.records import START_S, crowd, run_info, run_state
from tests.support.rows import for_each_row
from tests.support.views import answers, drawn, view_of

RUN = "slurm-4242"
HOSTILE = "\x1b[2J\x1b]0;owned\x07 \u202egnp.exe 東京タワー🔥 \x9b2J"


def test_a_run_some_hours_in_is_said_whole() -> None:
    text = drawn(view_of(page_states.hours_in(2, 1, 1), RUN))
    for part in (
        *("node-7 · llama-7b fine-tune (slurm-4242)", "phase train", "60.0 % of its steps"),
        *("762 W  ● 750 W measured  ◇ 11.5 W estimated", "energy     ", "PUE 1.00 included"),
        *("360 g/kWh, DE, table, 2024, Ember", "forecast   11.1 Wh (10.0 to 13.3)", "0.002 EUR"),
        *("2kWh: 25.0 % spent, then: warn", "gpu 1   ●  measured", "dram 0  ◇  estimated"),
        *("train  now  48 min 00 s", "✕ rapl not used", "sudo chmod o+r energy_uj", "q quit"),
    ):
        assert part in text


def test_measured_and_estimated_differ_without_colour_and_without_words() -> None:
    view = view_of(page_states.hours_in(1, 0, 1), RUN)
    for signs in (None, ASCII):
        lines = drawn(view, 40, **({} if signs is None else {"signs": signs})).splitlines()
        gpu, memory = (next(line for line in lines if line.startswith(name)) for name in ("gpu 0", "dram 0"))
        assert "measured" not in gpu + memory, "no room for words"
        assert gpu[7:10].strip() != memory[7:10].strip()
        assert gpu.split()[-1][-1] != memory.split()[-1][-1], "nor are their plots alike"


def test_what_is_unknown_is_said_and_is_no_0() -> None:
    begun = drawn(view_of(page_states.just_begun(), RUN))
    for part in ("power      unknown  – 3 devices unknown", "energy     unknown", "emissions  unknown"):
        assert part in begun
    assert "no device is metered here" in drawn(view_of(page_states.no_sensor(), RUN))
    lost = drawn(view_of(page_states.sensor_lost(), RUN))
    assert "– 2 devices unknown" in lost
    assert "✕ nvml lost: the driver does not answer; nvidia-smi" in lost
    assert "gpu 0   –  unknown   unknown" in lost


def test_a_node_with_many_runs_shows_those_with_the_largest_power_first() -> None:
    shown = crowd(100)
    runs = tuple(
        run._replace(power_w=((shown.devices[0].device.id, float(place)),))
        for place, run in enumerate(shown.runs)
    )
    text = drawn(view_of(shown._replace(runs=runs)))
    assert "100 running" in text
    assert text.index("slurm-99 ") < text.index("slurm-98 ") < text.index("slurm-90 ")
    assert "slurm-10 " not in text
    assert "and 90 below" in text
    assert "8 GPUs " in text, "the devices of a kind together"
    assert "3.9 %" in text, "99 W of 2.52 kW"


def test_a_frame_without_a_height_has_ten_runs_and_no_keys() -> None:
    text = drawn(view_of(crowd(100)), rows=None)
    assert text.count("\ntrain  slurm-") == 10
    assert "and 90 more" in text
    assert "q quit" not in text
    assert "gpu 7 " in text


def test_a_terminal_of_ascii_gets_ascii() -> None:
    for shown, run_id in ((page_states.hours_in(1, 1, 1), RUN), (crowd(3), "")):
        view = view_of(shown, run_id)
        assert drawn(view, signs=ASCII).isascii()
        view.problem, view.is_help = "refused", True
        assert drawn(view, signs=ASCII).isascii()


@for_each_row(("columns", "rows"), [(80, 24), (40, 24), (40, 12), (200, 60), (20, 5), (8, 3), (1, 1)])
def test_a_frame_fits_every_terminal(columns: int, rows: int) -> None:
    for shown, run_id in (
        (page_states.hours_in(6, 2, 2), RUN),
        (page_states.sensor_lost(), RUN),
        (page_states.just_begun(), RUN),
        (page_states.no_sensor(), ""),
        (crowd(100), ""),
    ):
        view = view_of(shown, run_id)
        drawn(view, columns, rows)
        view.problem, view.notes = "the connection failed", ["the monitor was started anew"]
        view.marked = 7
        drawn(view, columns, rows)
        view.is_help = True
        drawn(view, columns, rows)
    drawn(View("http://node-7:9877"), columns, rows)


def test_names_of_others_are_text_and_wide_ones_break_no_column() -> None:
    shown = crowd(3)
    named = [
        shown.runs[0]._replace(info=run_info("slurm-0", name=HOSTILE)),
        shown.runs[1]._replace(info=run_info("slurm-1", name="東京タワー")),
    ]
    view = view_of(shown._replace(runs=(*named, shown.runs[2])))
    for columns in (80, 40):
        text = drawn(view, columns)
        assert {character for character in text if not character.isprintable()} == {"\n"}
    rows = [line for line in drawn(view, 100).splitlines() if "slurm-" in line]
    assert "\\x1b[2J" in rows[0]
    assert len({columns_of(line[: line.index("slurm-")]) for line in rows}) == 1
    run = shown.runs[0]._replace(info=run_info(RUN, name=HOSTILE), phases_s=((HOSTILE, 1.0),), phase=HOSTILE)
    text = drawn(view_of(shown._replace(runs=(run,)), RUN))
    assert {character for character in text if not character.isprintable()} == {"\n"}


def test_the_id_of_a_run_that_is_not_known_yet_is_text_too() -> None:
    view = view_of(crowd(3))
    view.look_at("\x1b[2J")
    assert "node-7 · \\x1b[2J" in drawn(view)
    assert "train (slurm" not in drawn(view), "nothing of another run"


def test_phases_are_shown_one_by_one_and_then_together() -> None:
    view = view_of(page_states.hours_in(1, 1, 0), RUN)
    obey(view, "p")
    text = drawn(view)
    assert "phase      train, 48 min 00 s" in text
    assert "p phase: train" in text
    obey(view, "p")
    assert "phase      eval, 12 min 00 s" in drawn(view)
    obey(view, "p")
    assert "phase      " not in drawn(view)


def test_a_table_is_sorted_by_each_of_its_columns_in_turn() -> None:
    view = view_of(page_states.hours_in(2, 1, 1), RUN)
    orders = []
    for _ in range(5):
        orders.append([line.split()[0] for line in drawn(view).splitlines() if line[:3] in ("gpu", "dra")])
        obey(view, "s")
    assert orders[0] == ["gpu", "gpu", "dram"]
    assert orders[0] == orders[4], "round again"
    node = view_of(crowd(3))
    sorts = []
    for _ in range(5):
        sorts.append(node.run_sort)
        obey(node, "s")
    assert sorts == ["power", "energy", "emissions", "time", "name"]


def test_a_run_is_chosen_from_the_node_and_left_again() -> None:
    view = view_of(crowd(30))
    for _ in range(40):
        obey(view, "down")
    assert view.marked == 29
    assert "and 20 above" in drawn(view)
    chosen = view.sorted_runs()[29].text("id")
    obey(view, "enter")
    assert view.run_id == chosen
    obey(view, "n")
    assert view.is_node


def test_devices_beyond_the_height_are_reached() -> None:
    view = view_of(page_states.hours_in(8, 2, 2), RUN)
    assert "dram 1" not in drawn(view, rows=16)
    for _ in range(20):
        obey(view, "down")
    text = drawn(view, rows=16)
    assert "dram 1" in text
    assert "above" in text


def test_a_monitor_that_is_gone_keeps_what_was_known() -> None:
    view = view_of(page_states.hours_in(1, 1, 0), RUN)
    view.problem = "http://node-7:9877: the connection failed"
    text = drawn(view)
    assert "✕ no newer answer: http://node-7:9877: the connection failed" in text
    assert "llama-7b fine-tune" in text
    view.take(*answers(later(page_states.hours_in(1, 1, 0))))
    assert "no newer answer" not in drawn(view)


def test_a_monitor_that_was_started_anew_is_said() -> None:
    view = view_of(later(page_states.hours_in(1, 1, 0), 100.0))
    view.take(*answers(page_states.hours_in(1, 1, 0)))
    assert "note: the monitor was started anew" in drawn(view)


def test_an_ended_run_names_its_report() -> None:
    shown = page_states.hours_in(1, 1, 0)
    (run,) = shown.runs
    for ended, says in (
        (run._replace(ended_at_s=shown.at_s, exit_code=3), "ended after 1 h 00 min, exit code 3"),
        (run._replace(ended_at_s=shown.at_s, signal=9), "by signal 9"),
        (run._replace(ended_at_s=shown.at_s), "exit code not known"),
    ):
        text = drawn(view_of(shown._replace(runs=(ended,)), RUN))
        assert says in text
        assert "carbonmon report slurm-4242" in text
        assert "\npower " not in text


def test_a_monitor_of_which_only_the_end_is_served_names_its_runs() -> None:
    view = View("http://node-7:9877")
    view.take(Document({"api": 1, "state": "ended", "ended": ["one", "two"]}), [])
    assert "its runs: carbonmon report one, carbonmon report two" in drawn(view, 120)


def test_a_run_without_totals_and_a_cost_and_water_are_said() -> None:
    run = run_state(run_info(), duration_s=3.0)._replace(water_l=1.5)
    shown = page_states.no_sensor()._replace(runs=(run,))
    text = drawn(view_of(shown, RUN))
    assert "water      1.50 l" in text
    assert "energy     unknown" in text


FIELDS = st.sampled_from(
    [
        *("at_s", "interval_s", "state", "host", "runs", "running", "ended", "run", "id", "name", "phase"),
        *("phases", "duration_s", "energy_j", "power_w", "node", "devices", "component", "known_by", "index"),
        *("intensity", "g_per_kwh", "zone", "year", "sensors", "is_up", "is_used", "reason", "remedy"),
        *("forecast", "end_at_s", "expected", "low", "high", "budgets", "limit", "spent", "reached_at_s"),
        *("notes", "costs", "amount", "pue_ratio", "fetch_errors", "count", "source", "progress_ratio"),
        *("exit_code", "signal", "utilization_ratio", "unattributed_j", "measured_ratio", "water_l"),
    ]
)
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=6),
    max_leaves=20,
)


@given(now=st.dictionaries(FIELDS, DOCUMENTS, max_size=8), runs=st.lists(DOCUMENTS, max_size=3))
def test_whatever_a_server_sends_is_drawn(now: dict[str, object], runs: list[object]) -> None:
    for run_id in ("", "x"):
        view = View("http://node-7:9877", run_id)
        view.take(Document(now), [Document(run) for run in runs])
        text = drawn(view, 60, 20)
        assert {character for character in text if not character.isprintable()} <= {"\n"}


@pytest.mark.parametrize("at_s", [0.0, START_S, 1e29])
def test_a_time_that_no_calendar_has_is_unknown(at_s: float) -> None:
    view = view_of(page_states.hours_in(1, 0, 0)._replace(at_s=at_s), RUN)
    assert "llama-7b" in drawn(view)
