"""carbonmon's own log as one JSON object a line, for log collectors."""

from __future__ import annotations

import json
import logging

from carbonmon.core.plain_text import plain_json
from carbonmon.core.times import rfc3339


class JsonFormatter(logging.Formatter):
    """`{"time": RFC 3339 in UTC, "level", "logger", "message"}`, with "exception" where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": rfc3339(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return plain_json(json.dumps(entry, ensure_ascii=False))
