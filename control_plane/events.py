"""Every event there is: `<resource>.<what happened>`. What is not named here is not written; what is, can be subscribed to."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Final

EVENTS: Final[Mapping[str, tuple[str, ...]]] = {
    "access": ("throttled",),
    "api_key": ("created", "revoked", "rotated", "updated"),
    "application": ("created", "deleted", "updated"),
    "backup": ("created", "drilled", "restored"),
    "grant": ("created", "deleted", "expired"),
    "group": ("created", "deleted", "updated"),
    "identity_provider": ("created", "deleted", "sessions_revoked", "tested", "updated"),
    "login": ("refused",),
    "logout": ("received", "refused"),
    "membership": ("created", "removed", "updated"),
    "org": ("created", "deleted", "sessions_revoked", "updated"),
    "policy": (
        *("approved", "draft_deleted", "drafted", "published", "rolled_back", "shadow_started", "shadow_stopped", "waived"),
    ),
    "profile": ("created", "deleted", "erased", "sessions_revoked", "updated"),
    "role": ("created", "deleted", "updated"),
    "secret_key": ("rewrapped",),
    "session": ("created", "refused", "revoked"),
    "signing_key": ("created", "retired", "rotated"),
    "webhook": ("created", "deleted", "disabled", "replayed", "secret_rotated", "tested", "updated"),
}
"""Kind of thing → what happens to it."""

OF_THE_PLATFORM: Final = frozenset({"access", "application", "backup", "logout", "policy", "secret_key", "signing_key"})
"""Kinds of things that belong to no org: of these an org never hears."""

_MOST_NAMES: Final = 3


def require(kind: str, verb: str, *, of_an_org: bool) -> None:
    """RuntimeError for an event that is not named above, or is told of an org where no org has such things."""
    if verb not in EVENTS.get(kind, ()) or (of_an_org and kind in OF_THE_PLATFORM):
        raise RuntimeError(f"nobody can subscribe to {kind}.{verb} as it is told here: see control_plane/events.py")


def unknown(pattern: str) -> str | None:
    """What to write instead of a pattern (`*`, `profile.*`, `profile.updated`) that no event matches; None where one does."""
    kind, _, verb = pattern.partition(".")
    if pattern == "*" or (kind in EVENTS and verb in {"*", *EVENTS[kind]}):
        return None
    names = [f"{one}.{what}" for one in EVENTS for what in ("*", *EVENTS[one])]
    if near := get_close_matches(pattern, names, _MOST_NAMES):
        return f"No event is called that. Did you mean {' or '.join(near)}?"
    if kind in EVENTS:
        return f"No event is called that. Of {kind} there are: *, {', '.join(EVENTS[kind])}."
    return f"No event is called that. Write * for all, or one of these and .* behind it: {', '.join(EVENTS)}."
