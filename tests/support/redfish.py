"""A management controller on loopback that speaks Redfish: its documents, its account, its faults."""

from __future__ import annotations

import json
import ssl
from typing import Any

from carbonmon.net.address import basic_login
from tests.support.gridserver import GridServer, Reply, Request

USERNAME, PASSWORD = "monitor", "s3cret-of-the-bmc"
SESSIONS = "/redfish/v1/SessionService/Sessions"
METRICS = "/redfish/v1/Chassis/Self/EnvironmentMetrics"


class Bmc:
    """Until it is left as a context. `metrics` is what its chassis tells now.

    `offers`: "session" (and Basic), "basic" (no login at all), or "silent": a login that gives no token.
    """

    def __init__(self, context: ssl.SSLContext | None = None, offers: str = "session") -> None:
        self.offers = offers
        self.metrics: dict[str, Any] = {"PowerWatts": {"Reading": 500.0}}
        self.documents: dict[str, Any] = {
            "/redfish/v1/Chassis": {"Members": [{"@odata.id": "/redfish/v1/Chassis/Self"}]},
            "/redfish/v1/Chassis/Self": {"EnvironmentMetrics": {"@odata.id": METRICS}, "Links": {}},
        }
        self.sessions: set[str] = set()
        self.logins = 0
        self.server = GridServer(self._answer, context)

    @property
    def url(self) -> str:
        scheme, _, place = self.server.url.partition("://")
        return f"{scheme}://{USERNAME}@{place}"

    @property
    def paths(self) -> list[str]:
        return self.server.paths

    def __enter__(self) -> Bmc:
        self.server.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.server.__exit__(*error)

    def _answer(self, request: Request) -> Reply:
        if request.path == "/redfish/v1/":
            links = {"Sessions": {"@odata.id": SESSIONS}} if self.offers != "basic" else {}
            return Reply({"Chassis": {"@odata.id": "/redfish/v1/Chassis"}, "Links": links})
        if request.path == SESSIONS and request.method == "POST":
            return self._log_in(json.loads(request.body))
        token = request.headers.get("x-auth-token", "")
        if token not in self.sessions and request.headers.get("authorization") != basic_login(
            USERNAME, PASSWORD
        ):
            return Reply({"error": {"code": "Base.1.0.NoValidSession"}}, 401)
        if request.method == "DELETE":
            self.sessions.discard(request.path.rpartition("/")[2])
            return Reply({})
        if request.path == METRICS:
            return Reply(self.metrics)
        found = self.documents.get(request.path)
        return Reply({}, 404) if found is None else Reply(found)

    def _log_in(self, said: dict[str, str]) -> Reply:
        self.logins += 1
        if self.offers == "silent":
            return Reply(b"", 204)
        if said != {"UserName": USERNAME, "Password": PASSWORD}:
            return Reply({"error": {}}, 401)
        token = f"token-{self.logins}"
        self.sessions.add(token)
        return Reply({}, 201, {"X-Auth-Token": token, "Location": f"{SESSIONS}/{token}"})
