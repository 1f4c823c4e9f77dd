"""The guards: whatever an adapter raises becomes data and one log line, and everything else goes on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from carbonmon.core.errors import CarbonmonError, ConfigError, SensorError, SensorGone
from carbonmon.core.model import Failure, Intensity, NodeUsage, Reading, ResumePoint, SensorState, Snapshot
from carbonmon.core.ports import Clock, Exporter, IntensityProvider, Roots, Sensor, Workload

if TYPE_CHECKING:
    from carbonmon.monitor.relief import Relief

log = logging.getLogger(__name__)


class GuardedSensor:
    """A sensor behind its guard. It is logged when it, or one of its devices, changes its state."""

    may_hang = False

    def read_in_place(self, relief: Relief) -> None:
        """From now on its driver may hang in the sampling thread, which `relief` stands by for."""

    def __init__(self, sensor: Sensor) -> None:
        self.name = sensor.name
        self._sensor = sensor
        self.sources = tuple(sensor.sources())
        self._reason = next((source.reason for source in self.sources if source.name == self.name), "")
        self._up = True
        self._gone = self._wants_shape = False
        self._read_s: float | None = None
        self._errors: dict[str, int] = {}
        self._failing: dict[str, dict[str, str]] = {}
        self._ignored: frozenset[str] = frozenset()

    def ignore(self, device_ids: frozenset[str], reason: str) -> None:
        """Take no reading of these devices: others have their energy. `reason` says what it still reads."""
        self._ignored, self._reason = device_ids, reason

    def want_shape(self, wanted: bool) -> None:
        """Whether the next read is to say when the energy was drawn that no counter has told yet."""
        if wanted is not self._wants_shape and hasattr(self._sensor, "shape_wanted"):
            self._sensor.shape_wanted = self._wants_shape = wanted

    def read(self, clock: Clock, edge: bool, into: dict[str, tuple[Reading | Failure, float]]) -> None:
        """Collect what the sensor says into `into`, each reading stamped right after it was made."""
        if self._gone:
            return
        now_s = clock.now_s
        begin_s = now_s()
        trouble = ""
        heard: list[str] = []
        failures: list[Failure] = []
        try:
            for reading in self._sensor.read(begin_s, edge):
                at_s = now_s()
                device_id = reading.device_id
                if device_id in self._ignored:
                    continue
                if type(reading) is Failure:
                    failures.append(reading)
                else:
                    heard.append(device_id)
                if device_id in into:
                    merge_readings(into, device_id, reading, at_s)
                else:
                    into[device_id] = reading, at_s
        except SensorGone as gone:
            self._gone = True
            trouble = str(gone) or "it has ended"
        except SensorError as error:
            trouble = str(error)
            self._count("read")
        except Exception as error:  # a sensor's own bug must stop neither the other sensors nor the job
            trouble = f"{type(error).__name__}: {error}"
            self._count("bug")
            log.debug("%s failed", self.name, exc_info=True)
        if failures or self._failing:
            self._note(failures, heard)
            if failures and not heard:
                trouble = trouble or "no device answers"
        if (not trouble) is not self._up:
            self._up = not trouble
            log.warning("sensor %s %s", self.name, f"cannot be read: {trouble}" if trouble else "reads again")
        self._read_s = now_s() - begin_s

    def _count(self, reason: str) -> None:
        self._errors[reason] = self._errors.get(reason, 0) + 1

    def _note(self, failures: Sequence[Failure], heard: Sequence[str]) -> None:
        """Count failures and log each device's changes; a device that was not read stays as it was."""
        failing: dict[str, dict[str, str]] = {}
        for failure in failures:
            self._count(failure.reason)
            failing.setdefault(failure.device_id, {})[failure.reason] = failure.detail or failure.reason
        for device_id, reasons in failing.items():
            known = self._failing.get(device_id, {})
            for reason, detail in reasons.items():
                if reason not in known:
                    log.warning("%s: %s: %s", self.name, device_id, detail)
        for device_id, reasons in self._failing.items():
            if device_id in failing:
                continue
            if device_id in heard:
                log.warning("%s: %s is read again", self.name, device_id)
            else:
                failing[device_id] = reasons
        self._failing = failing

    def state(self) -> SensorState:
        return SensorState(
            self.name, "used", self._reason, "", self._up, self._read_s, tuple(dict(self._errors).items())
        )

    def close(self) -> None:
        try:
            self._sensor.close()
        except Exception:  # closing is the last thing that happens: nothing depends on it
            log.debug("closing sensor %s failed", self.name, exc_info=True)


def merge_readings(
    into: dict[str, tuple[Reading | Failure, float]], device_id: str, reading: Reading | Failure, at_s: float
) -> None:
    """Add what one sensor says of a device to what those before it said."""
    before = into.get(device_id)
    into[device_id] = (reading, at_s) if before is None else (_merged(before[0], reading), before[1])


def _merged(first: Reading | Failure, second: Reading | Failure) -> Reading | Failure:
    """Two words on one device: the first wins, the second fills what it left open."""
    if isinstance(second, Failure):
        return first
    if isinstance(first, Failure):
        return second
    return Reading(
        first.device_id,
        second.energy_uj if first.energy_uj is None else first.energy_uj,
        second.power_w if first.power_w is None else first.power_w,
        second.trace if first.trace is None else first.trace,
        second.utilization_ratio if first.utilization_ratio is None else first.utilization_ratio,
        second.shape if first.shape is None else first.shape,
    )


class Guard:
    """Runs calls that may fail: counts their failures, and logs when success and failure change places."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.errors = 0
        self._trouble = ""

    def attempt(self, what: str, call: Callable[[], object]) -> bool:
        """Whether the call succeeded; `what` says in the log what could not be done."""
        bug: Exception | None
        try:
            call()
        except (CarbonmonError, OSError) as error:
            trouble, bug = str(error), None
        # Our own bug, or a third party's: it must stop neither the run nor the job.
        except Exception as error:  # noqa: BLE001
            trouble, bug = f"{type(error).__name__}: {error}", error
        else:
            if self._trouble:
                self._trouble = ""
                log.warning("%s works again", self.name)
            return True
        self.errors += 1
        if trouble != self._trouble:
            log.warning("%s %s: %s", self.name, what, trouble, exc_info=bug)
        self._trouble = trouble
        return False


class GuardedWorkload(Guard):
    """A workload behind its guard: its faults cost shares, never a sample."""

    def __init__(self, workload: Workload) -> None:
        super().__init__("workload")
        self._workload = workload

    def add(self, run_id: str, roots: Roots, since: ResumePoint | None) -> None:
        self.attempt("cannot follow a run", lambda: self._workload.add(run_id, roots, since))

    def remove(self, run_id: str) -> None:
        self.attempt("cannot let go of a run", lambda: self._workload.remove(run_id))

    def read(self, now_s: float) -> NodeUsage | None:
        """What was used since the reading before; None if that cannot be told."""
        found: list[NodeUsage] = []
        self.attempt("cannot tell who uses the node", lambda: found.append(self._workload.read(now_s)))
        return found[0] if found else None

    def resume_points(self) -> Mapping[str, ResumePoint]:
        """Where each run stands, empty if that cannot be told."""
        found: list[Mapping[str, ResumePoint]] = []
        self.attempt("cannot tell where runs stand", lambda: found.append(self._workload.resume_points()))
        return found[0] if found else {}


class GuardedIntensity(Guard):
    """A source of intensity behind its guard: if it fails, the last figure stays, as stale."""

    def __init__(self, provider: IntensityProvider) -> None:
        super().__init__("intensity")
        self._provider = provider
        self._last: Intensity | None = None

    def intensity_at(self, wall_s: float) -> Intensity:
        """The intensity in force; raises only what the very first question raises."""
        if self._last is None:
            self._last = self._provider.intensity_at(wall_s)
        else:
            self.attempt("cannot be told", lambda: self._keep(self._provider.intensity_at(wall_s)))
        return self._now()

    def mean_at(self, start_s: float, end_s: float) -> Intensity:
        """The mean over a stretch of Unix time."""
        found: list[Intensity] = []
        self.attempt("cannot be told", lambda: found.append(self._provider.mean_at(start_s, end_s)))
        return found[0] if found else self._now()

    def fetch_errors(self) -> tuple[tuple[str, str, int], ...]:
        """What could not be fetched, and as source `intensity` how often the provider itself failed."""
        found: list[tuple[str, str, int]] = []
        try:
            found.extend(self._provider.fetch_errors())
        except Exception:  # figures about figures: nothing depends on them
            log.debug("the errors of the intensity's sources are unknown", exc_info=True)
        if self.errors:
            found.append((self.name, "bug", self.errors))
        return tuple(found)

    def close(self) -> None:
        try:
            self._provider.close()
        except Exception:  # closing is the last thing that happens: nothing depends on it
            log.debug("closing the source of intensity failed", exc_info=True)

    def _keep(self, intensity: Intensity) -> None:
        self._last = intensity

    def _now(self) -> Intensity:
        assert self._last is not None
        return self._last if not self._trouble else self._last._replace(kind="stale")


class GuardedExporter(Guard):
    """An exporter behind its guard: its faults are counted, and nobody else sees them."""

    def __init__(self, exporter: Exporter) -> None:
        super().__init__(exporter.name)
        self._exporter = exporter
        self._place = ""
        self.is_started = False

    def start(self, latest: Callable[[], Snapshot], *, refuses_mistakes: bool = False) -> str:
        """Where the result is to be found, "" if the exporter could not start.

        With `refuses_mistakes` a `ConfigError` is raised: what the user named cannot be.
        """
        mistakes: list[ConfigError] = []

        def start() -> None:
            try:
                self._place = self._exporter.start(latest)
            except ConfigError as mistake:
                if not refuses_mistakes:
                    raise
                mistakes.append(mistake)

        self.is_started = self.attempt("cannot start", start) and not mistakes
        if mistakes:
            raise mistakes[0]
        return self._place

    def checkpoint(self, snapshot: Snapshot) -> bool:
        return self.attempt("failed", lambda: self._exporter.checkpoint(snapshot))

    def finish(self, final: Snapshot) -> bool:
        """Whether the last snapshot was shown."""
        return self.attempt("failed", lambda: self._exporter.finish(final))

    def close(self) -> None:
        try:
            self._exporter.close()
        except Exception:  # closing is the last thing that happens: nothing depends on it
            log.debug("closing exporter %s failed", self.name, exc_info=True)
