"""`carbonmon run` and `doctor` on machines whose cards a vendor's library tells: Gaudi, Intel's Max."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.simulator import Constant, Simulator, Sine, Square
from tests.simulator.cards import Card, gaudi, max_1550
from tests.support import command

pytestmark = pytest.mark.e2e


class Machine(NamedTuple):
    """Its cards, how near the truth they are, by which method, and faults of its cards."""

    cards: Sequence[Card]
    tolerance: float = 0.002
    method: str = "counter"
    fault: str = ""


SWELLS = [Sine(600.0, 200.0, 5.0 + place) for place in range(8)]
MACHINES = {
    "8 Gaudi 3": Machine([gaudi(place, swell) for place, swell in enumerate(SWELLS)]),
    "8 Gaudi 3 by power": Machine(
        [gaudi(place, swell, window_s=0.1) for place, swell in enumerate(SWELLS)], 0.02, "power", "no_counter"
    ),
    "Gaudi 2": Machine([gaudi(0, Square(100.0, 600.0, 0.05), name="HL-225", limit_w=600.0)]),
    "Ponte Vecchio": Machine([max_1550(place, swell) for place, swell in enumerate(SWELLS[:2])]),
}


def unix_s(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
def test_what_the_cards_drew_is_in_the_summary_and_in_the_metrics(machine: Machine, tmp_path: Path):
    with command.Lateness() as late, Simulator(cards=machine.cards) as simulated:
        if machine.fault:
            for card in simulated.cards:
                card.fault(**{machine.fault: True})

        def truth_j(begin_unix_s: float, end_unix_s: float) -> dict[str, float]:
            return {card.id: card.energy_between_wall(begin_unix_s, end_unix_s) for card in simulated.cards}

        options = [
            "run",
            "--idle",
            "exclusive",
            "--interval",
            "0.1",
            "--checkpoint",
            "0.2",
            "--sysfs",
            str(simulated.sysfs),
        ]
        run = command.start(
            [*options, "--", *command.lasting(4.0)], tmp_path, env=simulated.environ, stdin=subprocess.PIPE
        )
        address = command.metrics_address(run)

        def metrics() -> tuple[str, dict[str, float]] | None:
            text = command.get(address)
            found_j = dict.fromkeys((card.id for card in simulated.cards), 0.0)
            for device, value in re.findall(
                r'^carbonmon_run_energy_joules_total{.*device="(GPU-[^"]+)".*} (\S+)', text, re.MULTILINE
            ):
                found_j[device] += float(value)
            return (text, found_j) if min(found_j.values()) > 500.0 else None

        text, seen_j = command.wait_for(metrics, "a second's energy in /metrics")
        seen_s = simulated.wall_s()
        sampled_s = re.search(r"^carbonmon_last_sample_timestamp_seconds (\S+)", text, re.MULTILINE)
        assert sampled_s is not None
        run.communicate(timeout=command.DEADLINE_S)
        assert run.returncode == 0
        summary = command.summary(tmp_path)
        started_s, ended_s = (unix_s(summary["run"][name]) for name in ("started_at", "ended_at"))
        devices = {
            device["id"]: device for device in summary["energy"]["devices"] if device["component"] == "gpu"
        }
        assert devices.keys() == {card.id for card in simulated.cards}
        for card, true_j in truth_j(started_s, ended_s).items():
            edge_j = truth_j(started_s, started_s + late.edges_s)[card]  # the first reading may be later
            device = devices[card]
            assert device["energy_j"] == pytest.approx(true_j, rel=machine.tolerance, abs=edge_j)
            assert set(device["methods"]) == {machine.method}
            assert device["utilization_ratio"] is None, "nothing that looks like activity is made of power"
        # A card is read a little after the sample begins, the more so on a machine that is busy.
        least_j, most_j = (truth_j(started_s, until_s) for until_s in (float(sampled_s[1]), seen_s))
        for card, value_j in seen_j.items():
            edge_j = truth_j(started_s, started_s + late.edges_s)[card]
            assert least_j[card] * (1.0 - machine.tolerance) - edge_j < value_j
            assert value_j < most_j[card] * (1.0 + machine.tolerance) + edge_j


def test_a_job_pays_for_the_cards_that_it_was_given(tmp_path: Path):
    cards = [gaudi(place, Constant(500.0)) for place in range(4)] + [max_1550(0, Constant(400.0))]
    with Simulator(cards=cards) as simulated:
        chosen = {"HABANA_VISIBLE_MODULES": "7,6", "ZE_AFFINITY_MASK": "1"}
        options = ["run", "--sysfs", str(simulated.sysfs), "--", "sleep", "1.5"]
        done = command.run(options, tmp_path, env={**simulated.environ, **chosen})
    assert done.returncode == 0, done.stderr
    assert "not counted" not in done.stderr
    energy = command.summary(tmp_path)["energy"]
    devices = {
        device["id"]: device["energy_j"] for device in energy["devices"] if device["component"] == "gpu"
    }
    first, second, tile = devices.values()
    assert list(devices) == ["GPU-0000:20:00.0", "GPU-0000:21:00.0", "GPU-0000:40:00.0"]
    assert first == pytest.approx(second, rel=0.02)
    assert tile == pytest.approx(first * 400.0 / 500.0 / 2, rel=0.02), "one tile of two"


def test_the_user_may_name_cards_of_both_kinds(tmp_path: Path):
    """An index is the graphics card's, as in a daemon; the accelerators beside it have ids."""
    cards = [gaudi(place, Constant(500.0)) for place in range(3)] + [max_1550(0, Constant(400.0))]
    with Simulator(cards=cards) as simulated:
        options = ["run", "--sysfs", str(simulated.sysfs), "--gpus", "0,GPU-0000:22:00.0", "--", "sleep", "1"]
        done = command.run(options, tmp_path, env=simulated.environ)
        assert done.returncode == 0, done.stderr
        named = [*options[:3], "--gpus", "5", *options[5:]]
        mistake = command.run(named, tmp_path, env=simulated.environ)
    devices = [device["id"] for device in command.summary(tmp_path)["energy"]["devices"]]
    assert devices[:2] == ["GPU-0000:22:00.0", "GPU-0000:40:00.0"]
    assert mistake.returncode == 2
    assert "--gpus 5: no such GPU here; there are 0 GPU-0000:40:00.0 " in mistake.stderr


def test_a_job_pays_for_the_accelerators_whose_device_files_it_has_open(tmp_path: Path):
    with Simulator(cards=[gaudi(place, Constant(500.0)) for place in range(2)]) as simulated:
        (simulated.sysfs / "class/accel/accel1/dev").write_text("1:5\n")  # that of /dev/zero
        options = ["run", "--sysfs", str(simulated.sysfs), "--", "sh", "-c", "exec 3</dev/zero; sleep 3"]
        done = command.run(options, tmp_path, env=simulated.environ)
    assert done.returncode == 0, done.stderr
    energy = command.summary(tmp_path)["energy"]
    devices = {device["id"]: device["energy_j"] for device in energy["devices"]}
    assert devices["GPU-0000:21:00.0"] > 1000.0
    assert devices.get("GPU-0000:20:00.0", 0.0) == 0.0


def test_doctor_says_of_each_library_what_it_reads_or_what_mends_it(tmp_path: Path):
    with Simulator(
        cards=[*(gaudi(place, SWELLS[0]) for place in range(8)), max_1550(0, SWELLS[1])]
    ) as simulated:
        arguments = ["doctor", "--json", "--sysfs", str(simulated.sysfs)]
        done = command.run(arguments, tmp_path, env=simulated.environ)
        said = {source["source"]: source for source in json.loads(done.stdout)["sources"]}
        assert said["gaudi"]["reason"].startswith("8 of 8 accelerators (HL-325L): 8 by counter")
        assert said["levelzero"]["reason"] == "GPU-0000:40:00.0: energy by its card domain"
        assert not any(name.startswith("unmetered") for name in said)
        without = command.run(arguments, tmp_path)
        said = {source["source"]: source for source in json.loads(without.stdout)["sources"]}
        assert said["gaudi"]["reason"].startswith(
            "8 Gaudi accelerators are here, but HLML: /usr/lib/habanalabs"
        )
        assert "habanalabs-firmware-tools" in said["gaudi"]["remedy"]
        assert "libze_loader.so.1" in said["levelzero"]["reason"]
        assert said["unmetered Gaudi accelerator"]["reason"].startswith("8 Gaudi accelerators are here")
        assert said["unmetered Intel GPU"]["reason"].startswith("1 Intel GPU is here and not counted")
