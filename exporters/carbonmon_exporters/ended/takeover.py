"""Takes the port and the ended runs from the process that serves them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carbonmon.core.files import absolute
from carbonmon_exporters.ended import channel
from carbonmon_exporters.ended.bundle import Bundle

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from carbonmon_exporters.ended.runs import Ended
    from carbonmon_exporters.endpoint.access import AccessPolicy


def take_over(
    address: tuple[str, int], policy: AccessPolicy, targets: Path | None
) -> tuple[socket.socket, list[Ended]] | None:
    """The listening socket and the ended runs at an address; None if none of ours are served there.

    None as well if they are protected otherwise than by `policy`. `targets` is the folder of `--targets`: a
    file there is written anew, one elsewhere goes.
    """

    def accept(data: bytes) -> tuple[bytes, list[Ended]] | None:
        bundle = Bundle.from_bytes(data)
        if bundle is None or bundle.protects_less(policy):
            return None
        from carbonmon_exporters.ended.runs import EndedRuns

        keeps = (
            bundle.target is not None and targets is not None and bundle.target.parent == absolute(targets)
        )
        return channel.TAKEN_WITH_TARGET if keeps else channel.TAKEN, EndedRuns().read(bundle.ended)

    return channel.take(address, accept)
