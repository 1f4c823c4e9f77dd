"""What is known of a monitor, and what the viewer wants to see of it: all that a frame is made of."""

from __future__ import annotations

from dataclasses import dataclass, field

from carbonmon.core.records import NamedTuple
from carbonmon.runs.summary.strings import phase_text
from carbonmon.top.document import Document
from carbonmon.top.history import History, Power

RUN_SORTS = ("power", "energy", "emissions", "time", "name")
DEVICE_SORTS = ("device", "power", "energy", "use")


class Known(NamedTuple):
    """How much power is measured, estimated, and of how many devices it is unknown now."""

    measured_w: float | None
    estimated_w: float | None
    unknown: int


@dataclass
class View:
    """Changed by answers of the monitor and by keys. `run_id` is the run that is looked at, "" for the node.

    `problem` says why there is no newer answer, `notes` what the viewer should know, until the next key.
    """

    url: str
    run_id: str = ""
    now: Document = field(default_factory=lambda: Document({}))
    runs: list[Document] = field(default_factory=list)
    history: History = field(default_factory=History)
    problem: str = ""
    notes: list[str] = field(default_factory=list)
    run_sort: str = RUN_SORTS[0]
    device_sort: str = DEVICE_SORTS[0]
    phase: str = ""
    marked: int = 0
    is_help: bool = False

    @property
    def is_node(self) -> bool:
        """Whether the node with its runs is shown, and not one run."""
        return not self.run_id

    def look_at(self, run_id: str) -> None:
        """Look at another run, or at the node; nothing is known of a run until the next answer."""
        self.run_id, self.phase, self.marked, self.history = run_id, "", 0, History()
        self.now = Document({**self.now.values(), "run": None})

    def take(self, now: Document, runs: list[Document]) -> None:
        """Take a newer answer."""
        before_j, joules = (each.part("node").number("energy_j") for each in (self.now, now))
        if self.now.part("node") and before_j is not None and joules is not None and joules < before_j:
            self.notes.append("the monitor was started anew: what the node drew is counted from then on")
            self.history = History()
        self.now, self.runs, self.problem = now, runs, ""
        at_s = now.number("at_s")
        if at_s is not None and now.text("state") == "measuring":
            is_over = not self.is_node and now.part("run").text("state") != "running"
            if not is_over:
                phase = "" if self.is_node else now.part("run").raw_text("phase")
                self.history.add(at_s, self._powers(now), phase, now.number("interval_s") or 1.0)
        if self.phase not in phases(now):
            self.phase = ""

    def _powers(self, now: Document) -> dict[str, Power]:
        known_by = {each.raw_text("id"): each.text("known_by") for each in now.part("node").parts("devices")}
        owner = now.part("node") if self.is_node else now.part("run")
        return {
            (name := each.raw_text("id")): Power(watts, known_by.get(name) == "measured")
            for each in owner.parts("devices")
            if (watts := each.number("power_w")) is not None
        }

    def step_sort(self) -> None:
        """Sort by the next column."""
        if self.is_node:
            self.run_sort = _next(RUN_SORTS, self.run_sort)
        else:
            self.device_sort = _next(DEVICE_SORTS, self.device_sort)

    def step_phase(self) -> None:
        """Show the next phase of the run alone, behind the last one all of it."""
        self.phase = _next(("", *phases(self.now)), self.phase)

    def shown_phase(self) -> str:
        """The phase that is looked at, for people; "" for all of the run."""
        names = (each.text("name") for each in _phases(self.now) if each.raw_text("name") == self.phase)
        return phase_text(next(names, ""))

    def sorted_runs(self) -> list[Document]:
        """The runs in the order that was chosen; those of which it is not known come last."""
        if self.run_sort == "name":
            return sorted(self.runs, key=lambda run: run.text("name") or run.text("id"))
        key = {"power": "power_w", "energy": "energy_j", "emissions": "emissions_g", "time": "duration_s"}
        return _largest_first(self.runs, key[self.run_sort])

    def move(self, steps: int, rows: int) -> None:
        """Mark another row of the table that is moved in."""
        self.marked = max(0, min(rows - 1, self.marked + steps))


def phases(now: Document) -> list[str]:
    """The names of a run's phases, as they were sent."""
    return [phase.raw_text("name") for phase in _phases(now)]


def _phases(now: Document) -> list[Document]:
    return now.part("run").parts("phases")


def split(now: Document, devices: list[Document]) -> Known:
    """How the power of these devices is known, by the node's own account of them."""
    known_by = {each.raw_text("id"): each.text("known_by") for each in now.part("node").parts("devices")}
    watts = [(each.number("power_w"), known_by.get(each.raw_text("id"), "")) for each in devices]
    measured = [power for power, how in watts if power is not None and how == "measured"]
    estimated = [power for power, how in watts if power is not None and how != "measured"]
    unknown = sum(power is None for power, _ in watts)
    return Known(sum(measured) if measured else None, sum(estimated) if estimated else None, unknown)


def _largest_first(documents: list[Document], key: str) -> list[Document]:
    def place(document: Document) -> tuple[bool, float]:
        number = document.number(key)
        return number is None, -(number or 0.0)

    return sorted(documents, key=place)


def _next(words: tuple[str, ...], word: str) -> str:
    return words[(words.index(word) + 1) % len(words)] if word in words else words[0]
