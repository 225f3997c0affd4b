"""Log lines: one JSON object a line on standard error, or plain text for people.

Only what is passed as `fields` is written beside the message: no credential, cookie, address of a person or path ever is.
"""

import json
import logging
import re
import sys
import traceback
from datetime import UTC, datetime
from typing import Any, Final

_TRACEPARENT: Final = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-")
SERVICE: Final = "catalyst-sidecar"


def fields(**values: Any) -> dict[str, dict[str, Any]]:
    """Fields of a log line, as `extra` of a logging call. `trace_id` takes its own place in the line."""
    return {"fields": values}


def trace_id(traceparent: bytes | None) -> str:
    """The trace id of a `traceparent` header (W3C Trace Context section 3.2), empty where there is none or it is malformed."""
    match = _TRACEPARENT.match(traceparent or b"")
    return match[1].decode("ascii") if match else ""


class JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """`timestamp level message service trace_id` and the fields."""
        line = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            "service": SERVICE,
            "trace_id": "",
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[1]:
            line["error"] = _where(record.exc_info[1])
        return json.dumps(line, default=str)


class Console(logging.Formatter):
    """A line for people."""

    def format(self, record: logging.LogRecord) -> str:
        """`level message name=value …`."""
        pairs = "".join(f" {name}={value}" for name, value in getattr(record, "fields", {}).items() if value != "")
        error = f" error={_where(record.exc_info[1])}" if record.exc_info and record.exc_info[1] else ""
        return f"{record.levelname.lower():7} {record.getMessage()}{pairs}{error}"


def _where(error: BaseException) -> str:
    """Type of an exception and the places it came through, without its text: that may hold what a client sent."""
    frames = traceback.extract_tb(error.__traceback__)[-6:]
    return type(error).__name__ + "".join(f" < {frame.filename.rpartition('/')[2]}:{frame.lineno}" for frame in reversed(frames))


def configure(level: str, style: str) -> None:
    """Send everything at `level` and above to standard error, as `json` or `console`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if style == "json" else Console())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
