"""The providers of carbon intensity, as answers of a `GridServer`: formats and limits of their documentation.

What `intensity` says is the truth of all of them; times are Unix seconds.
"""

from __future__ import annotations

import base64
import json
import re
from datetime import datetime, timezone
from typing import Any

from tests.support.gridserver import SECRET, Reply, Request

NOW_S = 1_795_293_600.0
"""2026-11-21T20:40Z, in the middle of slots of all lengths but 5 minutes, of which one begins."""


def intensity(time_s: float) -> float:
    """The grid of all providers in gCO2e/kWh: another figure in each slot of 5 minutes."""
    return 100.0 + time_s // 300 % 289


def text(time_s: float, form: str = "%Y-%m-%dT%H:%M:%S.000Z") -> str:
    return datetime.fromtimestamp(time_s, tz=timezone.utc).strftime(form)


def seconds(told: str) -> float:
    moment = datetime.fromisoformat(told.replace("Z", "+00:00"))
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()


def grid_of(start_s: float, end_s: float, step_s: float) -> list[float]:
    """The starts of slots from the one that holds `start_s` to the last that begins before `end_s`."""
    first = start_s // step_s * step_s
    return [first + place * step_s for place in range(int(max(0.0, -(-(end_s - first) // step_s))))]


class ElectricityMaps:
    """v3, with a key for one zone; a free one may not ask for more of the past than a day."""

    def __init__(
        self, zone: str = "DE", token: str = SECRET, is_free: bool = False, slot_s: float = 3600.0
    ) -> None:
        self.zone, self.token, self.is_free, self.slot_s = zone, token, is_free, slot_s
        self.now_s = NOW_S

    def __call__(self, request: Request) -> Reply:
        query = request.query
        if request.headers.get("auth-token") != self.token:
            return Reply({"status": "error", "message": "Invalid auth-token"}, 401)
        assert query["disableCallerLookup"] == "true" and query["emissionFactorType"] == "lifecycle"
        if query.get("zone") != self.zone:
            return Reply(
                {"status": "error", "message": f'No recent data for zone "{query.get("zone")}"'}, 404
            )
        what = request.path.removeprefix("/carbon-intensity/")
        whole = {"zone": self.zone, "temporalGranularity": self._granularity()}
        if what == "latest":
            return Reply(self._point(self.now_s // self.slot_s * self.slot_s))
        if what == "history":
            starts = grid_of(self.now_s - 86_400 + self.slot_s, self.now_s, self.slot_s)
            return Reply({**whole, "history": [self._point(start_s) for start_s in starts]})
        if self.is_free:
            return Reply({"error": "not in your plan"}, 401)
        if what == "past-range":
            start_s, end_s = seconds(query["start"]), seconds(query["end"])
            if end_s - start_s > 10 * 86_400:
                return Reply({"error": "at most 10 days"}, 400)
            starts = grid_of(start_s, min(end_s, self.now_s), self.slot_s)
            return Reply({**whole, "data": [self._point(start_s) for start_s in starts]})
        hours = int(query.get("horizonHours", "24"))
        starts = grid_of(self.now_s + self.slot_s, self.now_s + hours * 3600, self.slot_s)
        points = [{"carbonIntensity": intensity(start_s), "datetime": text(start_s)} for start_s in starts]
        return Reply({**whole, "forecast": points, "updatedAt": text(self.now_s)})

    def _granularity(self) -> str:
        return {3600.0: "hourly", 900.0: "15_minutes", 300.0: "5_minutes"}[self.slot_s]

    def _point(self, start_s: float) -> dict[str, Any]:
        is_estimated = start_s > self.now_s - 2 * 3600
        return {
            "zone": self.zone,
            "carbonIntensity": intensity(start_s),
            "datetime": text(start_s),
            "updatedAt": text(self.now_s),
            "createdAt": text(start_s - 60),
            "emissionFactorType": "lifecycle",
            "isEstimated": is_estimated,
            "estimationMethod": "TIME_SLICER_AVERAGE" if is_estimated else None,
            "temporalGranularity": self._granularity(),
        }


class Uk:
    """National with what was, regional with forecasts; a span also holds the half-hour before it."""

    def __init__(self) -> None:
        self.now_s = NOW_S

    def __call__(self, request: Request) -> Reply:
        parts = request.path.strip("/").split("/")
        is_regional = parts[0] == "regional"
        parts = parts[1:] if is_regional else parts
        starts = [self.now_s // 1800 * 1800]
        is_span = parts[0] == "intensity" and len(parts) > 1
        if is_span:
            start_s, end_s = seconds(parts[1]), seconds(parts[2])
            if end_s - start_s > 14 * 86_400:
                error = {"code": "400 Bad Request", "message": "at most 14 days"}
                return Reply({"error": error}, 400)
            starts = grid_of(start_s - 1800, min(end_s, self.now_s + 48 * 3600), 1800)
            parts = parts[2:]
        rows = [self._row(start_s, is_regional) for start_s in starts]
        if not is_regional:
            return Reply({"data": rows})
        region: dict[str, Any] = {"regionid": 12, "dnoregion": "SSE South", "shortname": "South England"}
        kind, place = parts[-2:]
        region |= {"regionid": int(place)} if kind == "regionid" else {"postcode": place}
        region["data"] = rows
        return Reply({"data": region if is_span else [region]})

    def _row(self, start_s: float, is_regional: bool) -> dict[str, Any]:
        said: dict[str, Any] = {"forecast": intensity(start_s), "index": "moderate"}
        if not is_regional:
            is_over = start_s + 1800 <= self.now_s
            said |= {"forecast": 7, "actual": intensity(start_s)} if is_over else {"actual": None}
        form = "%Y-%m-%dT%H:%MZ"
        return {"from": text(start_s, form), "to": text(start_s + 1800, form), "intensity": said}


class Rte:
    """Quarter-hours until an hour ago; the newest have no value. At most 100 records a page, 10,000."""

    def __init__(self) -> None:
        self.now_s = NOW_S

    def __call__(self, request: Request) -> Reply:
        query = request.query
        assert request.path == "/catalog/datasets/eco2mix-national-tr/records"
        limit, offset = int(query.get("limit", "10")), int(query.get("offset", "0"))
        if limit > 100 or limit + offset > 10_000:
            return Reply({"error_code": "InvalidRESTParameterError", "message": "too many"}, 400)
        span = re.findall(r"date_heure (?:>=|<) date'([^']+)'", query.get("where", ""))
        start_s, end_s = map(seconds, span) if span else (self.now_s - 86_400, self.now_s + 86_400)
        starts = [
            time_s for time_s in grid_of(start_s, min(end_s, self.now_s), 900) if start_s <= time_s < end_s
        ]
        rows: list[dict[str, Any]] = [
            {"taux_co2": int(intensity(time_s)) if time_s <= self.now_s - 3600 else None, "time_s": time_s}
            for time_s in starts
        ]
        if "taux_co2 is not null" in query.get("where", ""):
            rows = [row for row in rows if row["taux_co2"] is not None]
        if query.get("order_by", "").endswith("desc"):
            rows.reverse()
        page = [
            {"taux_co2": row["taux_co2"], "date_heure": text(row["time_s"], "%Y-%m-%dT%H:%M:%S+00:00")}
            for row in rows[offset : offset + limit]
        ]
        return Reply({"total_count": len(rows), "results": page})


class Dk:
    """Both price areas by 5 minutes; `start` and `end` are Danish time, an hour after UTC in winter."""

    def __init__(self) -> None:
        self.now_s = NOW_S

    def __call__(self, request: Request) -> Reply:
        query = request.query
        name = request.path.removeprefix("/dataset/")
        until_s = self.now_s - 600 if name == "CO2Emis" else self.now_s // 300 * 300 + 9 * 3600
        start_s = seconds(query["start"]) - 3600 if "start" in query else until_s - 86_400
        end_s = min(seconds(query["end"]) - 3600 if "end" in query else until_s, until_s)
        areas = json.loads(query["filter"])["PriceArea"]
        rows = [
            {
                "Minutes5UTC": text(time_s, "%Y-%m-%dT%H:%M:%S"),
                "Minutes5DK": text(time_s + 3600, "%Y-%m-%dT%H:%M:%S"),
                "PriceArea": area,
                "CO2Emission": intensity(time_s),
            }
            for time_s in grid_of(start_s, end_s, 300)
            for area in areas
        ]
        if query.get("sort", "Minutes5UTC DESC").endswith("DESC"):
            rows.reverse()
        limit = int(query.get("limit", "100"))
        return Reply({"total": len(rows), "dataset": name, "records": rows[:limit] if limit else rows})


class WattTime:
    """A login for tokens, which `expire` ends. Pounds per MWh, at most 30 days a call."""

    def __init__(self, username: str = "ada", password: str = SECRET) -> None:
        self.now_s = NOW_S
        self.logins = 0
        self._login = "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()

    def expire(self) -> None:
        self.now_s += 1800
        self._tokens_until = self.logins

    _tokens_until = 0

    def __call__(self, request: Request) -> Reply:
        query, authorization = request.query, request.headers.get("authorization", "")
        if request.path == "/login":
            if authorization != self._login:
                return Reply({"error": "bad credentials"}, 401)
            self.logins += 1
            return Reply({"token": f"{SECRET}.{self.logins}"})
        _, _, number = authorization.rpartition(".")
        if not number.isdecimal() or int(number) <= self._tokens_until:
            return Reply({"error": "Jwt is expired"}, 401)
        assert query["signal_type"] == "co2_moer"
        if request.path == "/v3/historical":
            start_s, end_s = seconds(query["start"]), seconds(query["end"])
            if end_s - start_s > 30 * 86_400:
                return Reply({"error": "Time range too large"}, 400)
            starts, meta = grid_of(start_s, min(end_s, self.now_s), 300), {"data_point_period_seconds": 300}
        else:
            end_s = self.now_s + int(query.get("horizon_hours", "24")) * 3600
            starts, meta = (
                grid_of(self.now_s, max(end_s, self.now_s + 1), 300),
                {"generated_at": text(self.now_s)},
            )
        form = "%Y-%m-%dT%H:%M:%S+00:00"
        data = [
            {"point_time": text(time_s, form), "value": intensity(time_s) / 0.45359237} for time_s in starts
        ]
        known = {
            "region": query["region"],
            "signal_type": "co2_moer",
            "units": "lbs_co2_per_mwh",
            "warnings": [],
        }
        return Reply({"data": data, "meta": {**known, **meta}})
