"""Everybody that a policy is asked about, as principals, in classes that two policies cannot tell apart.

A policy sees of a person only what its rules name: some entitlements, roles, groups and labels, and whether an attribute equals a
segment of the path. People who agree in that get the same answer to every request, so one of each class is asked.
"""

import json
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, NamedTuple
from uuid import UUID

from control_plane.changes import Row, Work
from control_plane.db.queries import load
from control_plane.policies.paths import spelled
from sidecar.policy.match import Condition, Labels, Names, attribute, label_text
from sidecar.policy.model import Principal
from sidecar.policy.rules import Rule

SQL = load(Path(__file__).with_name("people.sql"))

SESSION: Final = "00000000-0000-4000-8000-000000000000"
"""The session of whoever is asked as if just logged in: nobody's."""


_SECONDS: Final = 60.0
"""How long the database may take to work out what everybody has."""


class Member(NamedTuple):
    """A profile in an org."""

    profile: UUID
    org: UUID


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What some policies' rules name."""

    entitlements: frozenset[str]
    roles: frozenset[str]
    groups: frozenset[str]
    labels: tuple[tuple[str, str], ...]
    attributes: tuple[str, ...]
    literals: frozenset[str]


@dataclass(slots=True)
class PeopleClass:
    """People who get the same answers: one of them as a principal, how many they are, and the first of them."""

    principal: Principal
    count: int = 0
    members: list[Member] = field(default_factory=list)


def vocabulary(rules: Collection[Rule], literals: Iterable[str]) -> Vocabulary:
    """What these rules name. `literals`: the texts that patterns name where a rule may compare a segment with who asks."""
    conditions: list[Condition] = [condition for rule in rules for condition in rule.conditions]
    names = {kind: _names(kind, conditions) for kind in ("entitlements", "roles", "groups")}
    labels = {pair for found in conditions if isinstance(found, Labels) for pair in found.require | found.forbid}
    attributes = {name for rule in rules for _, name in rule.bind}
    return Vocabulary(**names, labels=tuple(sorted(labels)), attributes=tuple(sorted(attributes)), literals=frozenset(literals))


def _names(kind: str, conditions: Iterable[Condition]) -> frozenset[str]:
    found = [condition for condition in conditions if isinstance(condition, Names) and condition.name == kind]
    return frozenset(name for condition in found for name in condition.all | condition.any)


async def members(
    work: Work, words: Vocabulary | None = None, pairs: Collection[Member] | None = None
) -> AsyncIterator[tuple[Member, Row]]:
    """Each active member of an active org with what it has there (of `pairs`, if given; of `words`, if given)."""
    named = [None] * 3 if words is None else [list(words.entitlements), list(words.roles), list(words.groups)]
    chosen = [None] * 2 if pairs is None else [[pair.profile for pair in pairs], [pair.org for pair in pairs]]
    await work.connection.execute(SQL.take_time, f"{_SECONDS:.0f}s")
    async for row in work.connection.cursor(SQL.members, *named, *chosen, prefetch=1000, timeout=_SECONDS):
        yield Member(row["profile_id"], row["org_id"]), row


def principal_of(row: Row, **login: Any) -> Principal:
    """A member as a principal, with what a credential adds (`kind`, `session_id`, `scopes`, `amr`, `acr`, `auth_time`)."""
    return Principal(
        sub=str(row["profile_id"]),
        email=row["email"],
        org_id=str(row["org_id"]),
        org_slug=row["org_slug"],
        groups=frozenset(row["groups"]),
        roles=frozenset(row["roles"]),
        entitlements=frozenset(row["entitlements"]),
        labels=json.loads(row["labels"]),
        **login,
    )


async def classes(work: Work, words: Vocabulary, logins: Sequence[Principal], listed: int) -> tuple[list[PeopleClass], int]:
    """Everybody in classes, and how many they are. `logins`: what a session of a user and an API key of a service add."""
    found: dict[object, PeopleClass] = {}
    total = 0
    async for member, row in members(work, words):
        login = logins[row["kind"] == "service"]
        facts = principal_of(row)
        names = ("sub", "email", "org_id", "org_slug", "groups", "roles", "entitlements", "labels")
        principal = replace(login, **{name: getattr(facts, name) for name in names})
        known = found.setdefault(class_key(principal, words), PeopleClass(principal))
        known.count += 1
        total += 1
        if len(known.members) < listed:
            known.members.append(member)
    return list(found.values()), total


def class_key(principal: Principal, words: Vocabulary) -> object:
    """What the rules can see of a principal. Two with the same key get the same answers, each about what is their own."""
    labels = tuple(label_text(principal.labels.get(name)) == value for name, value in words.labels)
    values = [attribute(principal, name) for name in words.attributes]
    own = tuple(value if value in words.literals else (values.index(value), spelled(value)) for value in values)
    return principal.kind, principal.groups, principal.roles, principal.entitlements, labels, own
