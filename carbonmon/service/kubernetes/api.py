"""The pods of one node, as the API server of Kubernetes lists and watches them.

Source: kubernetes.io/docs/reference/using-api/api-concepts, "Efficient detection of changes": a list, then a
watch from its version on; a version that is too old (410) begins anew with a list.
"""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from carbonmon import __version__
from carbonmon.core.errors import ConfigError, FetchError

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where the kubelet puts a service account's token and the API server's CA ("Accessing the Kubernetes API
from a Pod")."""

WATCH_S = 120
"""How long the server keeps a watch open; the next one goes on where it ended."""
QUIET_S = WATCH_S + 15.0
"""A connection that says nothing for so long is dead."""

LONGEST_LIST_BYTES = 128 << 20
LONGEST_EVENT_BYTES = 8 << 20
"""The API server itself takes no object above some 1.5 MiB."""

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
    """

    def __init__(self, url: str, node: str, account: Path) -> None:
        self.node = node
        parts = urlsplit(url)
        try:
            self._host, self._port = parts.hostname or "", parts.port
        except ValueError as error:
            raise ConfigError(f"--api-url: {url!r}: {error}") from None
        if parts.scheme not in ("http", "https") or not self._host or parts.query or parts.fragment:
            raise ConfigError(f"--api-url: {url!r} is no URL of an API server; give https://HOST:PORT")
        if parts.username is not None:
            raise ConfigError(
                "--api-url: no user or password in it; the token is read from --service-account"
            )
        self._tls = parts.scheme == "https"
        if not self._tls and not _is_local(self._host):
            raise ConfigError(f"--api-url: {url!r} would show the token to the network; give https://…")
        self._path = parts.path.rstrip("/")
        self._account = account

    def pods(self) -> tuple[list[Any], str]:
        """The pods now, as the API has them, and the version of this list; raises `FetchError`."""
        # From the server's memory, as fresh as its watches are: etcd is not asked.
        with self._answer({"resourceVersion": "0"}) as answer:
            text = answer.read(LONGEST_LIST_BYTES + 1)
        if len(text) > LONGEST_LIST_BYTES:
            raise FetchError("too_large", "the API server's list of pods is too long")
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
            while line := answer.readline(LONGEST_EVENT_BYTES + 1):
                if len(line) > LONGEST_EVENT_BYTES:
                    raise FetchError("too_large", "the API server sent an event that is too long")
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
    def _answer(self, query: Mapping[str, str]) -> Iterator[http.client.HTTPResponse]:
        selector = f"spec.nodeName={self.node}"
        target = f"{self._path}/api/v1/pods?{urlencode({'fieldSelector': selector, **query})}"
        try:
            with closing(self._connection()) as connection:
                connection.request("GET", target, headers=self._headers())
                answer = connection.getresponse()
                if answer.status == 410:
                    raise Expired
                if answer.status != 200:
                    raise FetchError(f"http_{answer.status}", _refusal(answer))
                yield answer
        except TimeoutError:
            raise FetchError("timeout", "the API server does not answer") from None
        except (OSError, http.client.HTTPException) as error:
            raise FetchError("connect", f"the API server at {self._host} is lost: {error!r:.200}") from None

    def _connection(self) -> http.client.HTTPConnection:
        if not self._tls:
            return http.client.HTTPConnection(self._host, self._port, timeout=QUIET_S)
        authority = self._account / "ca.crt"
        context = ssl.create_default_context(cafile=str(authority) if authority.exists() else None)
        return http.client.HTTPSConnection(self._host, self._port, timeout=QUIET_S, context=context)

    def _headers(self) -> dict[str, str]:
        headers = {"Accept": "application/json", "User-Agent": f"carbonmon/{__version__}"}
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


def _is_local(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


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


def _refusal(answer: http.client.HTTPResponse) -> str:
    """What the server says of its refusal: 403 names the permission that is missing."""
    try:
        said = json.loads(answer.read(1 << 16))["message"]
    except (ValueError, KeyError, TypeError):
        said = answer.reason
    return f"the API server answers {answer.status}: {said!s:.300}"
