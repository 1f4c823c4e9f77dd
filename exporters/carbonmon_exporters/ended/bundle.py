"""What a monitor leaves to the process of its ended runs, and that process to the next monitor, as JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carbonmon import __version__

if TYPE_CHECKING:
    from carbonmon_exporters.endpoint.access import AccessPolicy


@dataclass(frozen=True, slots=True)
class Bundle:
    """Ended runs, as `EndedRuns.to_json` gives them, and how they are served.

    `target` is the file of `--targets`. `is_tls` and `authenticates` are what the web config asked for when
    the runs were served: whoever serves them next asks for no less.
    """

    ended: list[dict[str, Any]]
    web_config: Path | None = None
    is_tls: bool = False
    authenticates: bool = False
    target: Path | None = None

    @classmethod
    def of(cls, ended: list[dict[str, Any]], policy: AccessPolicy, target: Path | None) -> Bundle:
        return cls(ended, policy.path, policy.is_tls, policy.authenticates, target)

    def protects_less(self, policy: AccessPolicy) -> bool:
        """Whether a policy would show the runs to clients that could not read them until now."""
        return (
            policy.path != self.web_config
            or policy.is_tls is not self.is_tls
            or policy.authenticates is not self.authenticates
        )

    def to_bytes(self) -> bytes:
        fields = {
            "version": __version__,
            "ended": self.ended,
            "web_config": None if self.web_config is None else str(self.web_config),
            "is_tls": self.is_tls,
            "authenticates": self.authenticates,
            "target": None if self.target is None else str(self.target),
        }
        return json.dumps(fields).encode("utf-8", "surrogatepass")

    @classmethod
    def from_bytes(cls, data: bytes) -> Bundle | None:
        """None for what another version of carbonmon has made, or for anything else."""
        try:
            fields = json.loads(data.decode("utf-8", "surrogatepass"))
            if fields["version"] != __version__:
                return None
            return cls(
                list(fields["ended"]),
                None if fields["web_config"] is None else Path(fields["web_config"]),
                bool(fields["is_tls"]),
                bool(fields["authenticates"]),
                None if fields["target"] is None else Path(fields["target"]),
            )
        except (KeyError, TypeError, ValueError):
            return None
