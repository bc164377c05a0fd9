"""The log: a line of JSON a record on standard output, with the names that Cloud Logging knows."""

import json
import logging
import sys
from typing import Any

log = logging.getLogger("faregate")

_FIELDS = {"request_id", "method", "path", "status", "duration_ms"}


def log_as_json() -> None:
    """Write the log, once per process."""
    if not log.handlers:
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(_JsonFormatter())
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        log.propagate = False


class _JsonFormatter(logging.Formatter):
    """One line of JSON a record."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record; nothing of a request's body or its credentials is ever in it."""
        line: dict[str, Any] = {
            "severity": record.levelname,
            "message": record.getMessage(),
            **{name: value for name, value in vars(record).items() if name in _FIELDS},
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)
