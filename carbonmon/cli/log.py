"""carbonmon's own log, on stderr; the loggers of other libraries are left as they are."""

from __future__ import annotations

import logging
import os
import sys

from carbonmon.cli import printing, terminal
from carbonmon.client.variables import are_seen, distrusted, misspelt
from carbonmon.core.plain_text import plain, plain_lines

log = logging.getLogger(__name__)


class _PlainFormatter(logging.Formatter):
    """A message is one line, whatever stands in it, as wide as the terminal; a traceback keeps its lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (the name is logging's)
        return plain(super().formatMessage(record))

    def format(self, record: logging.LogRecord) -> str:
        return printing.fitted(plain_lines(super().format(record)), terminal.width(err=True))


def set_up_log(level: str = "warning", form: str = "text") -> None:
    """Send carbonmon's own log to stderr, from this level on, as `text` or `json`."""
    handler = logging.StreamHandler(sys.stderr)
    if form == "json":
        from carbonmon.cli.jsonlog import JsonFormatter

        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(_PlainFormatter("carbonmon: %(message)s"))
    for name in ("carbonmon", "carbonmon_exporters"):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(level.upper())
        logger.propagate = False
    if not are_seen(os.environ):
        for line in (*misspelt(os.environ), *distrusted(os.environ)):
            log.warning("%s", line)
