"""Times, as people give them to a command."""

import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final

from control_plane.errors import OperatorError

_SPAN: Final = re.compile(r"(\d{1,6})([smhd])")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def ago(text: str) -> datetime | None:
    """So long before now, for what is written like 15m; None for anything else."""
    if span := _SPAN.fullmatch(text):
        return datetime.now(UTC) - timedelta(seconds=int(span[1]) * _SECONDS[span[2]])
    return None


def moment(option: str, text: str) -> datetime:
    """So long ago, or a time with its offset. OperatorError where it is neither."""
    if (before := ago(text)) is not None:
        return before
    with suppress(ValueError):
        found = datetime.fromisoformat(text)
        if found.tzinfo is not None:
            return found
    raise OperatorError(f"{option} {text}: write how long ago, such as 15m, or a time such as 2026-11-01T00:00:00Z")
