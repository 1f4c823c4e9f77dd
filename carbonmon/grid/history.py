"""Figures of the past from live sources, best first."""

from __future__ import annotations

from collections.abc import Sequence

from carbonmon.core.errors import FetchError
from carbonmon.core.ports import GridSource, Http
from carbonmon.core.timeline import Timeline
from carbonmon.grid.cache import check_slot


def history(
    sources: Sequence[GridSource], http: Http, start_s: float, end_s: float, now_s: float
) -> tuple[Timeline, list[str]]:
    """The figures of a stretch of the past, of each source only where those before it have none.

    The slots' notes are the indices of their sources in the list. The remarks say what failed.
    """
    timeline = Timeline()
    remarks = []
    for index, source in enumerate(sources):
        gaps = timeline.gaps(start_s, max(end_s, start_s + 1.0))
        if not gaps:
            break
        from_s, to_s = gaps[0][0] - source.slot_s, min(gaps[-1][1] + source.slot_s, now_s)
        try:
            slots = [check_slot(slot) for slot in source.history(http, from_s, to_s)]
            older = Timeline(slot._replace(note=str(index)) for slot in slots)
        except FetchError as error:
            remarks.append(f"{source.name} gave no figures: {error} ({error.reason})")
            continue
        except (ValueError, TypeError, OverflowError):
            remarks.append(f"{source.name} gave impossible figures (garbage)")
            continue
        except (Exception, SystemExit) as error:  # noqa: BLE001 (a third party's code may raise anything)
            remarks.append(f"{source.name} gave no figures: {type(error).__name__} in its own code (bug)")
            continue
        timeline = older.merged(timeline.slots)
    return timeline, remarks
