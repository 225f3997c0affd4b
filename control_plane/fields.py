"""Field types that several areas share. They refuse what PostgreSQL would refuse, with a better message."""

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final
from uuid import UUID

from fastapi import Path
from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, StringConstraints

from sidecar.contract import MAX_LIST_HEADER_BYTES

_PLAIN: Final = r"^[^\x00-\x1f\x7f]*$"
_SLUG: Final = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
_ENTITLEMENT: Final = r"^[!#-&(-+\--~]{1,200}$"
# Deliberately loose (RFC 5321 allows nearly anything): one @, no space, no control bytes, nothing that breaks out of a header.
_EMAIL: Final = r'^[^\x00-\x20\x7f@<>",;]+@[^\x00-\x20\x7f@<>",;]+$'
_PRINTABLE: Final = r"^[ -~]*$"
_DOMAIN: Final = r"^[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})+$"
_WORD: Final = r"^[!#-\[\]-~]+$"
_METHOD: Final = r"^[A-Za-z0-9_.-]{1,50}$"
_EVENTS: Final = r"^(\*|[a-z_]{1,50}\.(\*|[a-z_]{1,50}))$"
_HEADER_NAME: Final = r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}$"
_HEADER_TEXT: Final = r"^[!-~]([ -~]*[!-~])?$"
_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)


class Body(BaseModel):
    """What callers send. A field that nobody knows is an error, never ignored."""

    model_config = ConfigDict(extra="forbid")


class Shown(BaseModel):
    """What callers are shown: these fields and no others, whatever the row holds."""

    model_config = ConfigDict(extra="ignore", from_attributes=False)

    unversioned: ClassVar[frozenset[str]] = frozenset()
    """Fields that are no part of a thing's version: its ETag stays when they change."""


def as_uuid(reference: str) -> UUID | None:
    """The id that a reference is, or None where it must be a slug."""
    return UUID(reference) if _UUID.fullmatch(reference) else None


def _not_an_id(slug: str) -> str:
    """A slug in the form of an id could stand for another thing wherever both are taken."""
    if as_uuid(slug):
        raise ValueError("a slug must not look like an id")
    return slug


def _label_text(labels: Any) -> Any:
    """Label values are text; JSON's true, false and whole numbers are taken as theirs."""
    if not isinstance(labels, dict):
        return labels
    return {key: str(value).lower() if isinstance(value, bool | int) else value for key, value in labels.items()}


def _sendable(labels: dict[str, str]) -> dict[str, str]:
    """Labels that fit into `x-user-labels`. An answer without them could lose a restriction: sidecars refuse instead."""
    if len(json.dumps(labels, separators=(",", ":"))) > MAX_LIST_HEADER_BYTES:
        raise ValueError(f"labels must fit into {MAX_LIST_HEADER_BYTES} bytes of JSON: they travel in a header")
    return labels


Slug = Annotated[str, StringConstraints(pattern=_SLUG), AfterValidator(_not_an_id)]
Name = Annotated[str, StringConstraints(pattern=_PLAIN, min_length=1, max_length=200)]
Remark = Annotated[str, StringConstraints(pattern=_PLAIN, max_length=500)]
Reference = Annotated[str, StringConstraints(pattern=_PLAIN, min_length=1, max_length=63)]
"""An id or a slug."""

PathReference = Annotated[Reference, Path(description="Id or slug.")]
EntitlementName = Annotated[str, StringConstraints(pattern=_ENTITLEMENT)]
"""Printable ASCII without space, comma and quotes: entitlements stand in comma-separated headers."""

ScopeName = EntitlementName
Email = Annotated[str, StringConstraints(pattern=_EMAIL, max_length=320)]
_LabelKey = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
_LabelValue = Annotated[str, StringConstraints(pattern=_PLAIN, max_length=200)]
Labels = Annotated[dict[_LabelKey, _LabelValue], BeforeValidator(_label_text), AfterValidator(_sendable)]
Printable = Annotated[str, StringConstraints(pattern=_PRINTABLE)]
Domain = Annotated[str, StringConstraints(pattern=_DOMAIN, max_length=253), AfterValidator(str.lower)]
Word = Annotated[str, StringConstraints(pattern=_WORD, max_length=200)]
"""What stands in a list that spaces divide (RFC 6749 section 3.3): scopes, authentication classes."""

Method = Annotated[str, StringConstraints(pattern=_METHOD)]
"""A way to authenticate (RFC 8176 section 2)."""

EventPattern = Annotated[str, StringConstraints(pattern=_EVENTS)]
HeaderName = Annotated[str, StringConstraints(pattern=_HEADER_NAME)]
"""A token (RFC 9110 section 5.1)."""

HeaderText = Annotated[str, StringConstraints(pattern=_HEADER_TEXT)]
Moment = AwareDatetime
"""RFC 3339 with an offset, or seconds since the epoch."""

_IN_WORDS: Final = {
    _PLAIN: "Leave out control characters, such as tabs and line breaks.",
    _SLUG: "Write lower-case letters, digits and hyphens, 63 at most, the first and the last no hyphen.",
    _ENTITLEMENT: "Write printable ASCII without spaces, commas and quotes, 200 characters at most.",
    "^https?://": "Write a URL, such as https://idp.example.com.",
    _PRINTABLE: "Write printable ASCII.",
    _DOMAIN: "Write a domain, such as example.com.",
    _WORD: "Write printable ASCII without spaces, double quotes and backslashes.",
    _METHOD: "Write letters, digits, dots, hyphens and underscores, 50 at most.",
    _EVENTS: "Write *, or a resource with .* behind it such as profile.*, or an event such as profile.updated.",
    _HEADER_NAME: "Write the name of a header: letters, digits and hyphens, 100 at most.",
    _HEADER_TEXT: "Write printable ASCII, not nothing, without spaces around it.",
    _EMAIL: "Write one e-mail address, such as ann@example.com.",
}
"""What to write, for whom a pattern does not tell."""


def in_words(error: Mapping[str, Any]) -> str:
    """What is wrong with a field: Pydantic's message, or a plainer one where that quotes a pattern or a parser."""
    if error["type"] == "uuid_parsing":
        return "Write an id, as lists show it: 36 characters with hyphens."
    if error["type"] == "string_pattern_mismatch":
        return str(_IN_WORDS.get(error["ctx"]["pattern"], error["msg"]))
    if error["type"].startswith(("datetime_", "timezone_")):
        return "Write a time with its offset, such as 2026-11-01T00:00:00Z."
    # What a check of our own said, without what Pydantic puts before it.
    return str(error["msg"]).removeprefix("Value error, ")
