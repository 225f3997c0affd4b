"""What to ask a sidecar on a restored database: real requests that the policies in force decide, by people who are in it.

For each application, requests are made of its allow rules' own hosts, paths and methods, and asked by members who hold what the
rules want and by others. What the answer must be is worked out by the engine, from the database.
"""

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote

from control_plane.changes import Row, Work
from control_plane.db.queries import Queries
from control_plane.errors import ApiError
from control_plane.permissions import effective
from control_plane.policies.explain import answer
from control_plane.policies.models import Asking, Question

_RULES: Final = 10
_PEOPLE: Final = 3
_ANYWHERE: Final = "drill"
"""What stands where a pattern takes anything."""
_CLIENT: Final = "192.0.2.1"
_AMR: Final = ("pwd", "otp")


@dataclass(frozen=True, slots=True)
class Expected:
    """A question, and what the engine says to it. `entitlements`: what the application is told, None where nobody asks."""

    application: str
    rule: str
    question: Question
    allowed: bool
    reason: str
    entitlements: frozenset[str] | None


@dataclass(frozen=True, slots=True)
class Ask:
    """Asks the engine about one application, and remembers what was found."""

    work: Work
    queries: Queries
    application: Row

    async def questions(self) -> AsyncIterator[Expected]:
        """By somebody and by nobody one that is allowed and one that is not, as far as they are found."""
        seen: set[tuple[bool, bool]] = set()
        rules = [rule for rule in json.loads(self.application["document"])["rules"] if rule["effect"] == "allow"]
        for rule in sorted(rules, key=_is_open)[:_RULES]:
            for person in [None, *await self._people(rule)]:
                expected = await self._expected(rule, person)
                if expected is not None and (kind := (expected.allowed, person is None)) not in seen:
                    seen.add(kind)
                    yield expected

    async def _people(self, rule: Mapping[str, Any]) -> list[Row]:
        wanted = rule.get("when", {}).get("entitlements", {})
        names = [*wanted.get("all", ()), *wanted.get("any", ())]
        holders = await self.work.connection.fetch(self.queries.holders, names, _PEOPLE) if names else []
        return [*holders, *await self.work.connection.fetch(self.queries.some_members, _PEOPLE)]

    async def _expected(self, rule: Mapping[str, Any], person: Row | None) -> Expected | None:
        """The engine's answer; None where the request would never reach the policy."""
        question = _question(rule, self.application["hosts"], person)
        now = datetime.now(UTC).timestamp()
        try:
            decision = (await answer(self.work, str(self.application["id"]), question, now)).decision
        except ApiError:
            return None
        told = None if person is None else await self._told(person)
        return Expected(self.application["slug"], str(rule["id"]), question, decision.effect == "allow", decision.reason, told)

    async def _told(self, person: Row) -> frozenset[str]:
        held = await effective(self.work.connection, person["profile_id"], person["org_id"])
        prefixes = tuple(self.application["entitlement_prefixes"])
        names = () if held is None else held.entitlements
        return frozenset(name for name in names if not prefixes or name.startswith(prefixes))


def _is_open(rule: Mapping[str, Any]) -> bool:
    return rule.get("when", {}).get("anonymous") is True


def _question(rule: Mapping[str, Any], hosts: list[str], person: Row | None) -> Question:
    when = rule.get("when", {})
    host = next(iter(rule.get("hosts") or hosts), "").replace("*", _ANYWHERE, 1)
    path = "/".join(_segments(str(rule["paths"][0]), when.get("bind", {}), person))
    client = str(next(iter(when.get("source", ())), _CLIENT)).partition("/")[0]
    acr = next(iter(when.get("acr", ())), "")
    asking = None
    if person is not None:
        asking = Asking(profile=person["profile_id"], org=person["org_slug"], amr=list(_AMR), acr=acr)
    method = next(iter(rule.get("methods", ())), "GET")
    return Question.model_validate({"method": method, "url": f"https://{host}{path}", "client": client, "principal": asking})


def _segments(pattern: str, bind: Mapping[str, str], person: Row | None) -> Iterator[str]:
    """A path that the pattern matches; what must equal an attribute of who asks is that attribute."""
    own = {} if person is None else _attributes(person)
    for part in pattern.split("/"):
        if part in {"*", "**"}:
            yield _ANYWHERE
        elif part.startswith("{"):
            yield quote(own.get(bind.get(part.strip("{}"), ""), _ANYWHERE), safe="")
        else:
            yield quote(part, safe="%;:@!$&'()*+,=~")


def _attributes(person: Row) -> dict[str, str]:
    named = {"org.slug": "org_slug", "org.id": "org_id", "profile.id": "profile_id", "profile.email": "email"}
    return {attribute: str(person[column] or "") for attribute, column in named.items()}
