"""Rows of the replication views, and what a replica keeps of them.

A row arrives as JSON (`replica.<relation>`, and the same projection in the change log), is checked column by column and becomes a
named tuple. A row that is not as agreed raises `BadRow`; its message names relation and column, never a value.
"""

import re
from collections.abc import Callable, Mapping
from hashlib import sha256
from itertools import islice
from sys import intern
from typing import Any, Final, NamedTuple, cast
from uuid import UUID

from sidecar.policy.model import EMPTY, FOREVER

_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_HEX32: Final = re.compile(r"[0-9a-f]{32}")


class BadRow(Exception):
    """A row that is not as agreed with the database."""


def uuid_key(text: object) -> int:
    """The number of a UUID in canonical text form (lower case, dashes). Raises ValueError for anything else."""
    if isinstance(text, str) and _UUID.fullmatch(text):
        return int(text.replace("-", ""), 16)
    raise ValueError


def hex_key(text: object) -> int:
    """The number of 32 lower-case hexadecimal digits. Raises ValueError for anything else."""
    if isinstance(text, str) and _HEX32.fullmatch(text):
        return int(text, 16)
    raise ValueError


def uuid_text(key: int) -> str:
    """The canonical text of a UUID."""
    return str(UUID(int=key))


class OrgRow(NamedTuple):
    """A row of replica.orgs."""

    id: int
    slug: str
    status: str


class ProfileRow(NamedTuple):
    """A row of replica.profiles."""

    id: int
    kind: str
    email: str
    status: str
    labels: Mapping[str, str]
    not_before: float


class GroupRow(NamedTuple):
    """A row of replica.groups."""

    id: int
    org_id: int
    slug: str
    parent_id: int | None


class RoleRow(NamedTuple):
    """A row of replica.roles."""

    id: int
    org_id: int
    slug: str


class MembershipRow(NamedTuple):
    """A row of replica.memberships."""

    id: int
    org_id: int
    profile_id: int


class MembershipRoleRow(NamedTuple):
    """A row of replica.membership_roles."""

    membership_id: int
    role_id: int


class MembershipGroupRow(NamedTuple):
    """A row of replica.membership_groups."""

    membership_id: int
    group_id: int


class GrantRow(NamedTuple):
    """A row of replica.grants."""

    id: int
    org_id: int
    subject_kind: str
    subject_id: int
    entitlement: str
    expires_at: float


class ApiKeyRow(NamedTuple):
    """A row of replica.api_keys."""

    id: int
    org_id: int
    profile_id: int
    sha256: bytes
    scopes: frozenset[str]
    entitlements: frozenset[str] | None
    expires_at: float
    revoked: bool


class RevocationRow(NamedTuple):
    """A row of replica.session_revocations."""

    session_id: str
    profile_id: int
    until: float


class SigningKeyRow(NamedTuple):
    """A row of replica.signing_keys."""

    kid: str
    algorithm: str
    status: str
    jwk: Mapping[str, Any]
    not_after: float


class ApplicationRow(NamedTuple):
    """A row of replica.applications."""

    id: int
    slug: str
    entitlement_prefixes: tuple[str, ...]
    assertions: bool


class HostRow(NamedTuple):
    """A row of replica.application_hosts."""

    host: str
    application_id: int


class PolicyRow(NamedTuple):
    """A row of replica.policies."""

    application_id: int
    version: int
    document: object


class ShadowRow(NamedTuple):
    """A row of replica.shadow_policies."""

    application_id: int
    etag: str
    document: object


Row = (
    OrgRow
    | ProfileRow
    | GroupRow
    | RoleRow
    | MembershipRow
    | MembershipRoleRow
    | MembershipGroupRow
    | GrantRow
    | ApiKeyRow
    | RevocationRow
    | SigningKeyRow
    | ApplicationRow
    | HostRow
    | PolicyRow
    | ShadowRow
)
Key = int | str | tuple[int, int]


class Change(NamedTuple):
    """One row that a transaction left behind (`u`), or the key of one that it removed (`d`)."""

    relation: str
    op: str
    row: Mapping[str, Any]


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    raise ValueError


def _word(value: object) -> str:
    return intern(_text(value))


def _text_or_empty(value: object) -> str:
    return "" if value is None else _text(value)


def _number(value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    raise ValueError


def _number_or_zero(value: object) -> float:
    return 0.0 if value is None else _number(value)


def _number_or_forever(value: object) -> float:
    return FOREVER if value is None else _number(value)


def _integer(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError


def _flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise ValueError


def _words(value: object) -> tuple[str, ...]:
    if isinstance(value, list):
        return tuple(map(_word, value))
    raise ValueError


def _word_set(value: object) -> frozenset[str]:
    return frozenset(_words(value))


def _word_set_or_none(value: object) -> frozenset[str] | None:
    return None if value is None else _word_set(value)


def _mapping(value: object) -> Mapping[str, Any]:
    if isinstance(value, dict):
        return value
    raise ValueError


def _labels(value: object) -> Mapping[str, str]:
    return {_word(name): _word(content) for name, content in _mapping(value).items()} or EMPTY


def _uuid_or_none(value: object) -> int | None:
    return None if value is None else uuid_key(value)


def _sha256(value: object) -> bytes:
    digest = bytes.fromhex(_text(value))
    if len(digest) != sha256().digest_size:
        raise ValueError
    return digest


def _anything(value: object) -> object:
    return value


class Shape(NamedTuple):
    """How rows of a relation are read: the tuple they become, one reader a column, how many columns are the key."""

    row: Callable[..., Row]
    readers: Mapping[str, Callable[[object], object]]
    key_columns: int = 1


SHAPES: Final[dict[str, Shape]] = {
    "orgs": Shape(OrgRow, {"id": uuid_key, "slug": _text, "status": _word}),
    "profiles": Shape(
        ProfileRow,
        {
            "id": uuid_key,
            "kind": _word,
            "email": _text_or_empty,
            "status": _word,
            "labels": _labels,
            "not_before": _number_or_zero,
        },
    ),
    "groups": Shape(GroupRow, {"id": uuid_key, "org_id": uuid_key, "slug": _word, "parent_id": _uuid_or_none}),
    "roles": Shape(RoleRow, {"id": uuid_key, "org_id": uuid_key, "slug": _word}),
    "memberships": Shape(MembershipRow, {"id": uuid_key, "org_id": uuid_key, "profile_id": uuid_key}),
    "membership_roles": Shape(MembershipRoleRow, {"membership_id": uuid_key, "role_id": uuid_key}, 2),
    "membership_groups": Shape(MembershipGroupRow, {"membership_id": uuid_key, "group_id": uuid_key}, 2),
    "grants": Shape(
        GrantRow,
        {
            "id": uuid_key,
            "org_id": uuid_key,
            "subject_kind": _word,
            "subject_id": uuid_key,
            "entitlement": _word,
            "expires_at": _number_or_forever,
        },
    ),
    "api_keys": Shape(
        ApiKeyRow,
        {
            "id": hex_key,
            "org_id": uuid_key,
            "profile_id": uuid_key,
            "sha256": _sha256,
            "scopes": _word_set,
            "entitlements": _word_set_or_none,
            "expires_at": _number_or_forever,
            "revoked": _flag,
        },
    ),
    "session_revocations": Shape(RevocationRow, {"session_id": _text, "profile_id": uuid_key, "until": _number}),
    "signing_keys": Shape(
        SigningKeyRow,
        {"kid": _text, "algorithm": _word, "status": _word, "jwk": _mapping, "not_after": _number_or_forever},
    ),
    "applications": Shape(ApplicationRow, {"id": uuid_key, "slug": _text, "entitlement_prefixes": _words, "assertions": _flag}),
    "application_hosts": Shape(HostRow, {"host": _text, "application_id": uuid_key}),
    "policies": Shape(PolicyRow, {"application_id": uuid_key, "version": _integer, "document": _anything}),
    "shadow_policies": Shape(ShadowRow, {"application_id": uuid_key, "etag": _text, "document": _anything}),
}
"""The replicated relations, each after those that it refers to."""

DISPENSABLE: Final = frozenset({"shadow_policies"})
"""Relations that databases of earlier versions lack. They decide nothing, so checks are answered without them."""


def decode(relation: str, row: Mapping[str, Any]) -> Row:
    """The checked row. Raises BadRow."""
    shape = SHAPES[relation]
    try:
        return shape.row(*[reader(row[column]) for column, reader in shape.readers.items()])
    except (KeyError, ValueError, TypeError):
        raise _complaint(relation, row) from None  # the original message may hold the value


def decode_key(relation: str, row: Mapping[str, Any]) -> Key:
    """What identifies a row within its relation, from a row or from its key columns alone. Raises BadRow."""
    shape = SHAPES[relation]
    try:
        first, *more = (reader(row[column]) for column, reader in islice(shape.readers.items(), shape.key_columns))
    except (KeyError, ValueError, TypeError):
        raise _complaint(relation, row) from None
    return cast("Key", (first, *more) if more else first)


def _complaint(relation: str, row: Mapping[str, Any]) -> BadRow:
    """Names the first column that is not as agreed."""
    for column, reader in SHAPES[relation].readers.items():
        try:
            reader(row[column])
        except (KeyError, ValueError, TypeError):
            break
    return BadRow(f"{relation}.{column} is missing or not of the agreed type")
