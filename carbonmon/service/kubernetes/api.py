"""The pods of one node, as the API server of Kubernetes lists and watches them.

Source: kubernetes.io/docs/reference/using-api/api-concepts, "Efficient detection of changes": a list, then a
watch from its version on; a version that is too old (410) begins anew with a list.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from carbonmon.core.errors import ConfigError, FetchError
from carbonmon.net.address import is_loopback
from carbonmon.net.exchange import HttpError
from carbonmon.net.http import Answer, HttpClient

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where the kubelet puts a service account's token and the API server's CA ("Accessing the Kubernetes API
from a Pod")."""

WATCH_S = 120
"""How long the server keeps a watch open; the next one goes on where it ended."""
TIME_LIMIT_S = WATCH_S + 15.0
"""A list, or a watch as a whole, that is not over after so long is dead: the server ends a watch itself."""

LIST_LIMIT_BYTES = 32 << 20
"""A kubelet runs some hundred pods, of 10 to 30 KiB each."""
EVENT_LIMIT_BYTES = 4 << 20
"""The API server itself takes no object above some 1.5 MiB, which may be packed tighter than JSON."""

_CHANGES = frozenset(("ADDED", "MODIFIED", "DELETED"))


class Expired(Exception):
    """What happened since that version is not known any more: list again."""


def server_of(environ: Mapping[str, str]) -> str | None:
    """The URL of the API server as the kubelet tells every container; None outside of a pod."""
    host, port = environ.get("KUBERNETES_SERVICE_HOST"), environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        return None
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"


class ApiServer:
    """The API server at `url`, asked for the pods of `node` with the token and CA in the folder `account`.

    Raises `ConfigError` for a URL that cannot be used. A token is sent over TLS or to this machine only.
    `time_limit_s` is for a list or a watch as a whole, the limits in bytes for a list and for an event.
    """

    def __init__(
        self,
        url: str,
        node: str,
        account: Path,
        time_limit_s: float = TIME_LIMIT_S,
        list_limit_bytes: int = LIST_LIMIT_BYTES,
        event_limit_bytes: int = EVENT_LIMIT_BYTES,
    ) -> None:
        self.node = node
        self._time_limit_s = time_limit_s
        self._list_limit_bytes = list_limit_bytes
        self._event_limit_bytes = event_limit_bytes
        parts = urlsplit(url)
        try:
            self._host, _ = parts.hostname or "", parts.port
        except ValueError as error:
            raise ConfigError(f"--api-url: {url!r}: {error}") from None
        if parts.scheme not in ("http", "https") or not self._host or parts.query or parts.fragment:
            raise ConfigError(f"--api-url: {url!r} is no URL of an API server; give https://HOST:PORT")
        if parts.username is not None:
            raise ConfigError(
                "--api-url: no user or password in it; the token is read from --service-account"
            )
        if parts.scheme == "http" and not is_loopback(self._host):
            raise ConfigError(f"--api-url: {url!r} would show the token to the network; give https://…")
        self._pods_url = f"{url.rstrip('/')}/api/v1/pods"
        self._account = account

    def pods(self) -> tuple[list[Any], str]:
        """The pods now, as the API has them, and the version of this list; raises `FetchError`."""
        # From the server's memory, as fresh as its watches are: etcd is not asked.
        with self._answer({"resourceVersion": "0"}) as answer:
            text = answer.body(self._list_limit_bytes)
        listed = _json(text)
        items, version = listed.get("items"), _version(listed)
        if not isinstance(items, list) or not version:
            raise FetchError("garbage", "the API server's answer is no list of pods")
        return items, version

    def watch(self, version: str) -> Iterator[tuple[str, Any, str]]:
        """What changes after `version`: (ADDED, MODIFIED or DELETED, the pod, the version then).

        "" and None instead of the first two where only the version went on. Ends when the server ends it;
        raises `FetchError`, and `Expired` if the version is too old.
        """
        query = {"watch": "1", "resourceVersion": version, "allowWatchBookmarks": "true"}
        with self._answer(query | {"timeoutSeconds": str(WATCH_S)}) as answer:
            for line in answer.lines(self._event_limit_bytes):
                if not line.endswith(b"\n"):
                    raise FetchError("connect", "the watch of the API server ended inside an event")
                event = _json(line)
                kind, pod = event.get("type"), event.get("object")
                if not isinstance(pod, dict):
                    raise FetchError("garbage", "the API server sent an event without an object")
                if kind == "ERROR":
                    if pod.get("code") == 410:
                        raise Expired
                    raise FetchError(
                        f"http_{pod.get('code')}", f"the watch ended: {pod.get('message')!s:.200}"
                    )
                yield (kind, pod, _version(pod)) if kind in _CHANGES else ("", None, _version(pod))

    @contextmanager
    def _answer(self, query: Mapping[str, str]) -> Iterator[Answer]:
        query = {"fieldSelector": f"spec.nodeName={self.node}", **query}
        # The kubelet may replace the authority too: it is read anew each time.
        authority = self._account / "ca.crt"
        client = HttpClient(self._time_limit_s, authorities=str(authority) if authority.exists() else None)
        try:
            with client.open(f"{self._pods_url}?{urlencode(query)}", self._headers()) as answer:
                if answer.status == 410:
                    raise Expired
                if answer.status != 200:
                    raise FetchError(f"http_{answer.status}", _refusal(answer))
                yield answer
        except HttpError as error:
            raise FetchError(error.reason, self._lost(error)) from None

    def _lost(self, error: HttpError) -> str:
        if error.reason == "timeout":
            return f"the API server does not answer{error.way}"
        if error.reason == "too_large":
            return f"the API server sent too much: {error.cause}"
        return f"the API server at {self._host} is lost: {error.said:.200}"

    def _headers(self) -> dict[str, str]:
        headers = {"Accept": "application/json"}
        try:
            # Read anew each time: the kubelet replaces it before it expires.
            token = (self._account / "token").read_text(encoding="ascii").strip()
        except FileNotFoundError:
            return headers  # `kubectl proxy` has its own
        except (OSError, ValueError) as error:
            raise FetchError("key", f"{self._account / 'token'} cannot be read: {error}") from None
        if not token.isprintable():
            raise FetchError("key", f"{self._account / 'token'} holds no token")
        return headers | {"Authorization": f"Bearer {token}"}


def _json(text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise FetchError("not_json", "the API server's answer is no JSON") from None
    if not isinstance(value, dict):
        raise FetchError("garbage", "the API server's answer is no JSON object")
    return value


def _version(document: Mapping[str, Any]) -> str:
    metadata = document.get("metadata")
    version = metadata.get("resourceVersion") if isinstance(metadata, dict) else None
    return version if isinstance(version, str) else ""


def _refusal(answer: Answer) -> str:
    """What the server says of its refusal: 403 names the permission that is missing."""
    try:
        said = json.loads(answer.beginning())["message"]
    except (ValueError, KeyError, TypeError, RecursionError):
        said = answer.reason
    return f"the API server answers {answer.status}: {said!s:.300}"
