"""The log: lines of JSON on standard output, with the names that Cloud Logging knows."""

import json
import sys
from traceback import format_exception


def log(
    severity: str, message: str, failure: BaseException | None = None, **fields: object
) -> None:
    """Write a line; nothing of a request's body or its credentials is ever in it."""
    line = {"severity": severity, "message": message, **fields}
    if failure:
        line["exception"] = "".join(format_exception(failure))
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()
