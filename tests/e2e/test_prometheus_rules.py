"""The files for Prometheus in deploy/: promtool accepts them, and they name only metrics that exist."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from carbonmon.core.metrics import ENDPOINT_FAMILIES, FAMILIES
from tests.support import prometheus

FOLDER = Path(__file__).parents[2] / "deploy" / "prometheus"
RULES, ALERTS = FOLDER / "carbonmon.rules.yml", FOLDER / "carbonmon.alerts.yml"

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(prometheus.binary() is None, reason="no Prometheus, and no apt-get to fetch it"),
]


def promtool(*arguments: str) -> str:
    """What promtool says; it must be satisfied."""
    program = prometheus.binary()
    assert program is not None
    done = subprocess.run(
        [str(Path(program).with_name("promtool")), *arguments],
        cwd=FOLDER,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def expressions(path: Path) -> list[tuple[str, str]]:
    """(name, expression) of every rule of a file."""
    groups = yaml.safe_load(path.read_text())["groups"]
    return [
        (rule.get("record") or rule["alert"], rule["expr"]) for group in groups for rule in group["rules"]
    ]


@pytest.mark.parametrize("name", ["prometheus.yml", "scrape-tls.yml"])
def test_promtool_accepts_the_scrape_configs(name: str, tmp_path: Path) -> None:
    promtool("check", "config", "--syntax-only", name)


def test_promtool_accepts_the_config_of_an_agent() -> None:
    promtool("check", "config", "--agent", "--syntax-only", "agent.yml")


def test_promtool_accepts_the_rules_and_their_unit_tests_pass() -> None:
    promtool("check", "rules", "--lint=all", "--lint-fatal", RULES.name, ALERTS.name)
    promtool("test", "rules", "carbonmon.rules.test.yml", "carbonmon.rules.day.test.yml")


def test_rules_and_alerts_use_only_metrics_that_exist() -> None:
    recorded = {name for name, _ in expressions(RULES)}
    known = {family.name for family in (*FAMILIES, *ENDPOINT_FAMILIES)} | recorded
    for name, expression in [*expressions(RULES), *expressions(ALERTS)]:
        used = set(re.findall(r"[a-z_:]*carbonmon_[a-z0-9_:]+", expression))
        assert used, name
        assert used <= known, f"{name}: {used - known}"
