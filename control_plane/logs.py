"""One JSON object a line on stderr: timestamp, level, message, service, trace_id and fields.

An exception is logged as its class and the places it passed through, never with its message: PostgreSQL's messages quote the
values that were refused, e-mail addresses among them.
"""

import logging
import sys
import traceback
from typing import Any, Final

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

_SAYS_TOO_MUCH: Final = ("httpcore2", "httpx2")
"""At level debug these write whole requests: paths, queries, the Authorization header."""


def configure(level: str, style: str, service: str = "catalyst-control-plane") -> None:
    """Send structlog and the standard library's logging (uvicorn, asyncio) to stderr. `style`: json or console."""

    def named(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event.setdefault("service", service)
        return event

    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        named,
        _exception_without_message,
    ]
    renderer: Processor = structlog.processors.JSONRenderer() if style == "json" else structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    final: list[Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if style == "json":
        final.append(structlog.processors.EventRenamer("message"))
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[*final, renderer]))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _SAYS_TOO_MUCH:
        logging.getLogger(name).setLevel(logging.WARNING)


def places(problem: BaseException) -> list[str]:
    """`file:line function` of each frame an exception passed through, outermost first."""
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(problem.__traceback__)]


def _exception_without_message(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Replace `exc_info` by the exception's class and places."""
    found: Any = event.pop("exc_info", None)
    problem = (
        found[1]
        if isinstance(found, tuple)
        else found
        if isinstance(found, BaseException)
        else sys.exc_info()[1]
        if found
        else None
    )
    if problem is not None:
        event["exception"] = type(problem).__name__
        event["places"] = places(problem)
    return event
