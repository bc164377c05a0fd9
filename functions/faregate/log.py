"""The log: lines of JSON on standard output, with the names that Cloud Logging knows.

https://docs.cloud.google.com/logging/docs/structured-logging#special-payload-fields
"""

import json
import logging
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from traceback import format_exception
from types import TracebackType
from typing import Any

from faregate.conceal import conceal

about: ContextVar[Mapping[str, object] | None] = ContextVar("about", default=None)
"""What every line tells of the request in which it is written."""


def log(
    severity: str, message: str, failure: BaseException | None = None, **fields: object
) -> None:
    """Write a line; nothing of a request's body and no credential is ever in it."""
    line = {"severity": severity, "message": message, **(about.get() or {}), **fields}
    if failure:
        line["exception"] = "".join(format_exception(failure))
    sys.stdout.write(json.dumps(_concealed(line), default=str) + "\n")
    sys.stdout.flush()


def _concealed(value: Any) -> Any:  # noqa: ANN401  JSON is anything
    if isinstance(value, str):
        return conceal(value)
    if isinstance(value, Mapping):
        return {name: _concealed(each) for name, each in value.items()}
    return value


def last_words(
    _kind: type[BaseException], failure: BaseException, _traceback: TracebackType | None
) -> None:
    """Write what ends the process, which Python would write to standard error as it is."""
    log("CRITICAL", "the process ends", failure)


class _LikeOurs(logging.Handler):
    """Writes what libraries warn of as lines like ours."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line."""
        try:
            message = record.getMessage()
        except (TypeError, ValueError):  # what is said does not fit how it is to be said
            message = str(record.msg)
        failure = record.exc_info[1] if record.exc_info else None
        log(record.levelname, message, failure, logger=record.name)


def _concealing(*named: Any, **more: Any) -> logging.LogRecord:  # noqa: ANN401  as it comes
    """Make a library's record, in which whoever writes it finds no secret: access logs, too."""
    record = logging.LogRecord(*named, **more)
    record.msg = conceal(str(record.msg))
    if isinstance(record.args, Mapping):
        record.msg, record.args = conceal(record.getMessage()), None
    elif record.args:
        record.args = tuple(
            conceal(str(each)) if isinstance(each, (str, BaseException)) else each
            for each in record.args
        )
    if record.exc_info and record.exc_info[1]:
        record.exc_text = conceal("".join(format_exception(record.exc_info[1])))
    return record


logging.setLogRecordFactory(_concealing)
# Used where nobody has set up logging, as in the cloud: else Python writes to standard error.
logging.lastResort = _LikeOurs(logging.WARNING)
