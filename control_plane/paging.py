"""Lists in pages: `{"items": […], "next": cursor or null}`.

A cursor holds the sort key of the last item seen, so pages stay right while rows come and go.
"""

import base64
import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, Any, Final, Generic, TypeVar
from uuid import UUID

from fastapi import Query
from pydantic import BaseModel, ConfigDict, StringConstraints, TypeAdapter

from control_plane.errors import invalid

Item = TypeVar("Item")
Row = TypeVar("Row")

Limit = Annotated[int, Query(ge=1, le=200, description="How many items at most.")]
After = Annotated[str | None, Query(max_length=500, description="`next` of the page before.")]
DEFAULT_LIMIT: Final = 50

_TEXTS: Final = TypeAdapter(list[Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]])
_READERS: Final[dict[type, Callable[[str], Any]]] = {str: str, int: int, UUID: UUID, datetime: datetime.fromisoformat}


class Page(BaseModel, Generic[Item]):
    """One page of a list."""

    model_config = ConfigDict(extra="forbid")

    items: list[Item]
    next: str | None


def cursor(*keys: object) -> str:
    """The sort key of an item as opaque text."""
    texts = [key.isoformat() if isinstance(key, datetime) else str(key) for key in keys]
    return base64.urlsafe_b64encode(json.dumps(texts).encode()).decode().rstrip("=")


def read_cursor(after: str | None, *types: type) -> list[Any]:
    """The sort key in a cursor, one value per type; all None for the first page; 422 where it is none of ours."""
    if after is None:
        return [None] * len(types)
    try:
        texts = _TEXTS.validate_json(base64.urlsafe_b64decode(after + "=" * (-len(after) % 4)))
        return [_READERS[kind](text) for kind, text in zip(types, texts, strict=True)]
    except ValueError:
        raise invalid("after", "invalid_cursor", "Use `next` of the page before, unchanged.") from None


def page(rows: Sequence[Row], limit: int, item: Callable[[Row], Item], key: Callable[[Row], Sequence[object]]) -> Page[Item]:
    """A page from `limit` + 1 rows: the one too many tells that there is more."""
    shown = rows[:limit]
    more = len(rows) > limit
    return Page(items=[item(row) for row in shown], next=cursor(*key(shown[-1])) if more else None)
