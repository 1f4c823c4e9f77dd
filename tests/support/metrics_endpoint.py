"""A metrics endpoint with a web config on a free port of the loopback, its certificates, and its clients."""

from __future__ import annotations

import base64
import contextlib
import http.client
import os
import socket
import ssl
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import bcrypt
import trustme
from carbonmon_exporters.prometheus import PrometheusExporter

from carbonmon.core.model import Snapshot
from carbonmon.core.ports import ExporterSettings
from tests.support.records import node

DEADLINE_S = 10.0
"""How long a test waits for what should come at once; only a failure takes that long."""

CHEAP_COST = 4
PASSWORD = "correct horse"
SALT = "bOt8j2oepbT9bEs7UyOiF."

Headers = dict[str, str]


def hashed(password: str = PASSWORD, cost: int = CHEAP_COST) -> str:
    """The same salt at all times: hashes are in the names of tests, which all workers must find equal."""
    return bcrypt.hashpw(password.encode(), f"$2b${cost:02}${SALT}".encode()).decode()


def basic(user: str, password: str = PASSWORD) -> Headers:
    return {"Authorization": f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"}


class Authority:
    """A certificate authority, and the files of those that it vouches for, in one folder."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._ca = trustme.CA()
        self._folder = folder
        self.file = folder / f"{name}.pem"
        self._ca.cert_pem.write_to_path(str(self.file))

    def issue(self, name: str, *identities: str, until: datetime | None = None) -> tuple[Path, Path]:
        """(certificate, key) as files NAME.crt and NAME.key; what was there is replaced."""
        leaf = self._ca.issue_cert(*(identities or ("localhost", "127.0.0.1")), not_after=until)
        certificate, key = self._folder / f"{name}.crt", self._folder / f"{name}.key"
        certificate.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        key.write_bytes(leaf.private_key_pem.bytes())
        key.chmod(0o600)
        return certificate, key

    def client(self, own: tuple[Path, Path] | None = None) -> ssl.SSLContext:
        """A client that trusts this authority, with a certificate of its own or without."""
        context = ssl.create_default_context(cafile=str(self.file))
        if own is not None:
            context.load_cert_chain(*own)
        return context


class Endpoint:
    """Where the metrics are, and how a client asks there."""

    def __init__(self, url: str, client: ssl.SSLContext | None) -> None:
        self.url = url.partition(" ")[0]
        scheme, _, place = self.url.removesuffix("/metrics").partition("://")
        self.is_tls = scheme == "https"
        self.port = int(place.rpartition(":")[2])
        self._client = client

    def connect(self) -> socket.socket:
        """A bare connection, without TLS."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as every real client of HTTP
        return connection

    def open(self, client: ssl.SSLContext | None = None) -> socket.socket:
        """A connection in TLS where TLS is spoken."""
        connection = self.connect()
        context = client or self._client
        if not self.is_tls:
            return connection
        assert context is not None
        return context.wrap_socket(connection, server_hostname="localhost")

    def ask(
        self,
        path: str = "/metrics",
        method: str = "GET",
        headers: Headers | None = None,
        client: ssl.SSLContext | None = None,
    ) -> tuple[http.client.HTTPResponse, bytes]:
        asking = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_S)
        with contextlib.closing(asking):
            asking.sock = self.open(client)
            asking.request(method, path, headers=headers or {})
            answer = asking.getresponse()
            return answer, answer.read()

    def status(self, *arguments: Any, **more: Any) -> int:
        return self.ask(*arguments, **more)[0].status

    def send(self, request: bytes) -> bytes:
        """All that comes back for some bytes."""
        with self.open() as connection:
            connection.sendall(request)
            return read_to_end(connection)


def read_to_end(connection: socket.socket) -> bytes:
    connection.settimeout(DEADLINE_S)
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)


@contextlib.contextmanager
def serving(
    web_config: Path | None = None,
    client: ssl.SSLContext | None = None,
    latest: Callable[[], Snapshot] | None = None,
    **options: Any,
) -> Iterator[Endpoint]:
    """Serve a snapshot as `carbonmon run` does; `client` trusts the server's certificate."""
    shown = node(2, 1, 1)
    exporter = PrometheusExporter(ExporterSettings(listen=("127.0.0.1", 0), web_config=web_config), **options)
    try:
        yield Endpoint(exporter.start(latest or (lambda: shown)), client)
    finally:
        exporter.close()


def replace(path: Path, text: str) -> None:
    """Put a new file in the place of another, as tools that renew certificates do."""
    new = path.with_name(f"{path.name}.new")
    new.write_text(text)
    os.replace(new, path)  # noqa: PTH105
