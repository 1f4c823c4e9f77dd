"""No server makes a client of ours grow or wait: peak memory and time of each against each of them."""

from __future__ import annotations

import sys
from contextlib import ExitStack

import pytest

from tests.support import peaks
from tests.support.gridserver import FAULTS, GridServer, Reply, Request

WITHIN_BYTES = 4_000_000
DEEP_BYTES = 12_000_000 if sys.version_info >= (3, 14) else 0
"""On top for nested JSON: from Python 3.14 on its parser goes as deep as the stack of 8 MB allows."""
TIME_LIMIT_S = 0.5
PATIENCE_S = 20.0
"""Beyond the limit by so much that no busy machine comes near it; without a limit it would be for ever."""

HOSTILE = (
    "announced",
    "bomb",
    "broken_redirect",
    "byte_a_second",
    "chunk_of_less_than_nothing",
    "chunk_of_no_size",
    "endless",
    "endless_bomb",
    "endless_chunks",
    "endless_header",
    "endless_headers",
    "endless_heads",
    "endless_trailer",
    "header_a_second",
    "nonsense",
    "redirect",
    "redirect_for_ever",
    "silent",
    "unknown_encoding",
    "deep",  # the last: memory that was once used stays in the peak
)


def works(request: Request) -> Reply:
    """A yes to each client: to the API of Prometheus and that of Kubernetes, and to whatever is pushed."""
    data = {"resultType": "scalar", "result": [1.0, "1795000000"]}
    known = {"status": "success", "data": data, "items": [], "metadata": {"resourceVersion": "1"}}
    if request.query.get("watch"):
        return Reply(b"")
    return Reply(b"" if request.headers.get("content-length") else known)


@pytest.mark.parametrize("client", peaks.CLIENTS)
def test_no_hostile_server_takes_a_client_beyond_4_mb_and_its_time(client: str):
    with ExitStack() as stack:
        servers = [stack.enter_context(GridServer(works)) for _ in range(1 + len(HOSTILE))]
        for server, fault in zip(servers[1:], HOSTILE, strict=True):
            server.fault = FAULTS[fault][0]
        normal, *others = peaks.peaks(client, [server.url for server in servers], TIME_LIMIT_S)
    assert normal.error == ""
    grown = {fault: peak.peak_bytes - normal.peak_bytes for fault, peak in zip(HOSTILE, others, strict=True)}
    deep = grown.pop("deep")
    assert max(grown.values()) <= WITHIN_BYTES, grown
    assert deep <= WITHIN_BYTES + DEEP_BYTES
    assert max(peak.seconds for peak in others) < PATIENCE_S
    assert [fault for fault, peak in zip(HOSTILE, others, strict=True) if not peak.error] == []
