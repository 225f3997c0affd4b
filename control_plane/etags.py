"""Entity tags: what one thing looks like now, as a short name (RFC 9110 section 8.8.3).

A tag is made of what is shown, not of a column: whatever changes about a thing changes its tag, whoever changed it and how.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from control_plane.fields import Shown


def tag(shown: Shown) -> str:
    """The strong tag of a thing, in its quotes."""
    return of_json(shown.model_dump(mode="json"), type(shown))


def of_json(shown: Mapping[str, Any], model: type[Shown]) -> str:
    """The same tag from the JSON that `model` became: keys sorted, without what is no part of a version."""
    versioned = {name: value for name, value in shown.items() if name not in model.unversioned}
    text = json.dumps(versioned, sort_keys=True, separators=(",", ":"))
    return f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'


def matches(header: str, current: str | None, *, weak: bool = False) -> bool:
    """Whether `If-Match` (or, `weak`, `If-None-Match`) names the current tag; `*` names whatever there is, None nothing."""
    named = [one.strip() for one in header.split(",")]
    if weak:
        named = [one.removeprefix("W/") for one in named]
    return current is not None and ("*" in named or current in named)
