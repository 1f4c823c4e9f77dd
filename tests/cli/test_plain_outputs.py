"""Whatever a name holds, no output of a command holds what a terminal obeys or a spreadsheet computes."""

from __future__ import annotations

import ast
import csv
import io
import json
import logging
from pathlib import Path
from types import ModuleType
from typing import Any

import carbonmon_exporters
import pytest

import carbonmon as package
from carbonmon.cli import log
from carbonmon.runs.layout import SUMMARY_FILE
from carbonmon.runs.summary.strings import encodable
from tests.support.rows import for_each_row
from tests.support.run_folders import a_run, carbonmon

HOSTILE = (
    "\x1b[2J\x1b]0;title\x07\x9b2J\x7f",
    "a\u202egpj.exe\u2066isolated\u2069\u200f",
    "line\u2028separator\u2029two\nlines\r\x85next",
    "=cmd|' /C calc'!A0",
    "caf\udce9",
)

OUTPUTS = {
    "report": ("report", "RUN"),
    "report in Markdown": ("report", "RUN", "--format", "markdown"),
    "report as JSON": ("report", "RUN", "--format", "json"),
    "report as CSV": ("report", "RUN", "--format", "csv"),
    "details as CSV": ("report", "RUN", "--format", "csv", "--details"),
    "places as CSV": ("report", "RUN", "--format", "csv", "--elsewhere", "DE,SE"),
    "what if": ("report", "RUN", "--region", "SE"),
    "series as CSV": ("report", "RUN", "--format", "csv", "--series"),
    "model card": ("report", "RUN", "--format", "model-card"),
    "report with places": ("report", "RUN", "--elsewhere"),
    "list": ("runs",),
    "list as CSV": ("runs", "--format", "csv"),
    "list as JSON": ("runs", "--format", "json", "--sum"),
    "groups": ("runs", "--by", "name,host,label:team", "--sum"),
    "groups as CSV": ("runs", "--by", "name,host,label:team", "--format", "csv"),
    "what would be removed": ("runs", "prune", "--older-than", "1d"),
    "comparison": ("compare", "RUN", "RUN"),
    "comparison in Markdown": ("compare", "RUN", "RUN", "--format", "markdown"),
    "comparison as JSON": ("compare", "RUN", "RUN", "--format", "json"),
    "settled": ("settle", "RUN", "--intensity-file", "INTENSITY"),
    "settled as JSON": ("settle", "RUN", "--intensity-file", "INTENSITY", "--format", "json"),
}
"""Every output that has names of others in it. A new one belongs here."""


def a_hostile_run(output: Path, text: str) -> Path:
    """A run in which all is called so that may be."""
    start_s = 1_763_749_800.0
    folder = a_run(
        *(output, "one"),
        name=text,
        host=text,
        labels=(("team", text), (f"k{text}", "v")),
        start_s=start_s,
        drawn=[(start_s + 3600.0, 3.6e6)],
    )
    summary = json.loads((folder / SUMMARY_FILE).read_text())
    for device in summary["energy"]["devices"]:
        device["name"] = device["share_note"] = text
    summary["carbon"]["intensity"] |= {"zone": text, "source": text, "note": text}
    summary["run"] |= {"command": [text], "notes": [text]}
    main = summary["energy"]["phases"]["main"]
    summary["energy"]["phases"] = {"main": {**main, "energy_j": 0.0, "emissions_g": 0.0, "components": {}}}
    summary["energy"]["phases"][text] = main
    (folder / SUMMARY_FILE).write_text(json.dumps(summary))
    series = folder / "series.jsonl"
    series.write_text(series.read_text().replace('"phase":"main"', f'"phase":{json.dumps(text)}'))
    return folder


def check_printable(text: str) -> None:
    """Only characters that are shown, and ends of lines; what UTF-8 can hold."""
    text.encode()
    assert {character for character in text if not character.isprintable()} <= {"\n"}


@pytest.mark.parametrize("output", OUTPUTS)
def test_no_output_holds_what_a_terminal_or_a_spreadsheet_obeys(
    output: str, tmp_path: Path, subtests: pytest.Subtests
):
    intensity = tmp_path / "intensity.csv"
    intensity.write_text("time,g_per_kwh\n2025-11-21T00:00Z,100\n2025-11-22T00:00Z,100\n")
    for place, text in enumerate(HOSTILE):
        with subtests.test(repr(text)):
            runs = tmp_path / f"runs-{place}"
            words = {"RUN": a_hostile_run(runs, text), "INTENSITY": intensity}
            done = carbonmon(*(words.get(word, word) for word in OUTPUTS[output]), "--output", runs)
            check_printable(done.stdout)
            check_printable(done.stderr)
            if "CSV" in output:
                cells = [cell for row in csv.reader(io.StringIO(done.stdout)) for cell in row]
                assert [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))] == []
            if "JSON" in output:
                assert json.loads(done.stdout)


def test_json_keeps_every_name_as_it_was(tmp_path: Path):
    for place, text in enumerate(HOSTILE):
        runs = tmp_path / f"runs-{place}"
        a_hostile_run(runs, text)
        (run,) = json.loads(carbonmon("runs", "--format", "json", "--output", runs).stdout)["runs"]
        assert run["name"] == encodable(text)


@for_each_row("form", ["text", "json"])
def test_a_message_of_the_log_is_one_printable_line(form: str, capsys: pytest.CaptureFixture[str]):
    log.set_up_log("warning", form)
    for text in HOSTILE:
        logging.getLogger("carbonmon.test").warning("run %s", text)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(HOSTILE)
    for line in lines:
        check_printable(line)


@for_each_row("text", HOSTILE)
def test_an_error_is_printable(text: str):
    for arguments in (("report", text), ("regions", text), (text,), (f"--{text}",), ("when", "--for", text)):
        check_printable(carbonmon(*arguments, code=2).output)


# Nothing prints but by the module that makes texts printable.

PRINTERS = {
    "carbonmon/cli/printing.py": "makes all that commands print printable",
    "carbonmon/cli/docs.py": "prints a page that it makes of our own texts",
    "carbonmon/cli/manpage.py": "the same",
    "carbonmon_exporters/docs.py": "the same",
    "carbonmon/cli/progress.py": "draws click's bar, with a label that it makes printable",
    "carbonmon/client/notebook.py": "one line in a notebook, made printable there",
}


def prints_in(tree: ast.AST) -> list[int]:
    """The lines in which something is printed: by click, by `print`, to stdout or stderr."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in ("click.echo", "click.secho", "print", "sys.stdout.write", "sys.stderr.write"):
                found.append(node.lineno)
    return found


@pytest.mark.parametrize("module", [package, carbonmon_exporters], ids=["carbonmon", "exporters"])
def test_only_the_printing_module_prints(module: ModuleType):
    top = Path(str(module.__file__)).parent
    found: dict[str, Any] = {}
    for path in top.rglob("*.py"):
        name = f"{top.name}/{path.relative_to(top)}"
        if name not in PRINTERS and (lines := prints_in(ast.parse(path.read_text()))):
            found[name] = lines
    assert found == {}, "print with carbonmon.cli.printing, which makes texts printable"
