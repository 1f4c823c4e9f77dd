"""What `carbonmon top` draws of a snapshot, without a monitor in between."""

from __future__ import annotations

import json

from carbonmon_exporters.page.known_by import KnownBy
from carbonmon_exporters.page.now import now
from carbonmon_exporters.page.run_list import run_list

from carbonmon.core.model import Snapshot
from carbonmon.core.text_layout import columns_of
from carbonmon.top.cells import UNICODE, Line, Signs
from carbonmon.top.document import Document
from carbonmon.top.frame import frame
from carbonmon.top.view import View


def answers(shown: Snapshot, run_id: str = "") -> tuple[Document, list[Document]]:
    """What the JSON API answers to `now` and `runs`."""
    known_by = KnownBy()
    known_by.look(shown.devices)
    documents = now(shown, run_id, known_by, "node-7"), run_list(shown, known_by)
    found, runs = (Document(json.loads(json.dumps(each))) for each in documents)
    return found, runs.parts("runs")


def view_of(shown: Snapshot, run_id: str = "") -> View:
    view = View("http://node-7:9877", run_id)
    view.take(*answers(shown, run_id))
    return view


def texts(lines: list[Line]) -> list[str]:
    return ["".join(span.text for span in line) for line in lines]


def drawn(view: View, columns: int = 80, rows: int | None = 24, signs: Signs = UNICODE) -> str:
    """A frame as text, after a look at its size."""
    lines = texts(frame(view, columns, rows, signs))
    assert rows is None or len(lines) == rows
    assert [line for line in lines if columns_of(line) > columns] == []
    return "\n".join(lines)
