"""What differs between two policies: in rules, and in people who gain or lose routes, by the membership of one moment."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from control_plane.changes import Work
from control_plane.policies.comparing import Assumed, Diff, SentDocument, Side, WantedDiff
from control_plane.policies.gains import NOBODY, Comparison, Difference, Ground, Route, Situation, compare, survey
from control_plane.policies.people import SESSION, PeopleClass, classes
from control_plane.policies.rule_changes import RuleChanges, rule_changes
from control_plane.policies.stored import SQL, Application, Document, Standing, application_of, sent, standing
from sidecar.policy.model import Kind, Principal


@dataclass(frozen=True, slots=True)
class Gathered:
    """All that a comparison needs, as of one revision: what follows needs no database."""

    wanted: WantedDiff
    before: Standing
    after: Standing
    ground: Ground
    people: list[PeopleClass]
    members: int
    revision: int


async def gather(work: Work, reference: str, wanted: WantedDiff, now: float) -> Gathered:
    """Read both policies and everybody, in one snapshot; 404 where one is not there, 422 where one has problems."""
    application = await application_of(work, reference)
    before = await standing(work, application, wanted.before)
    after = await candidate(work, application, wanted.after, wanted.document)
    ground = await asyncio.to_thread(survey, before.compiled, after.compiled, application.hosts)
    people, members = await classes(work, ground.words, _logins(wanted.assume, now), wanted.people)
    revision = await work.connection.fetchval(SQL.head)
    return Gathered(wanted, before, after, ground, people, members, revision)


async def candidate(work: Work, application: Application, which: str | int, document: SentDocument | None) -> Standing:
    """The policy that may go into force: one that is stored, or a document that was sent."""
    if document is None:
        return await standing(work, application, which)
    return await sent(Document(document.source, document.media_type), application)


def diff(gathered: Gathered, now: float) -> Diff:
    """The difference. Takes seconds where there is much of it: not for an event loop."""
    before, after, wanted = gathered.before, gathered.after, gathered.wanted
    rules = rule_changes((before.compiled.policy, before.data), (after.compiled.policy, after.data))
    at = wanted.assume.at.timestamp() if wanted.assume.at else now
    situation = Situation(wanted.assume.client, at)
    found = compare(gathered.ground, gathered.people, situation)
    truncated = [*found.truncated, *(["the order of rules was not looked at to the end"] if rules.truncated else [])]
    shown = {
        "before": side(before).model_dump(),
        "after": side(after).model_dump(),
        "revision": gathered.revision,
        "assumed": wanted.assume.model_dump(),
        "differs": _is_any(rules) or bool(found.differences) or bool(truncated),
        "rules": _rules(rules),
        "people": _people(gathered, found),
        "truncated": truncated,
    }
    return Diff.model_validate(shown)


def side(policy: Standing) -> Side:
    """One of the policies compared, as it is shown."""
    return Side(name=policy.name, version=policy.version, etag=policy.etag)


def _logins(assume: Assumed, now: float) -> tuple[Principal, Principal]:
    """What is assumed of a user's session and of a service's API key."""
    at = assume.at.timestamp() if assume.at else now
    scopes = frozenset(assume.scopes)
    session = Principal(
        kind=Kind.SESSION, session_id=SESSION, scopes=scopes, amr=frozenset(assume.amr), acr=assume.acr, auth_time=int(at)
    )
    return session, Principal(kind=Kind.API_KEY, scopes=scopes)


def _is_any(rules: RuleChanges) -> bool:
    return bool(rules.added or rules.removed or rules.changed or rules.moved)


def _rules(rules: RuleChanges) -> dict[str, object]:
    changed = [
        {"id": rule.id, "keys": [{"key": key.key, "before": key.before, "after": key.after} for key in rule.keys]}
        for rule in rules.changed
    ]
    moved = [{"id": move.id, "past": move.past} for move in rules.moved]
    return {"added": rules.added, "removed": rules.removed, "changed": changed, "moved": moved}


def _people(gathered: Gathered, found: Comparison) -> dict[str, object]:
    people, routes = gathered.people, gathered.wanted.routes
    gaining, losing = ({index for one in found.differences for index in getattr(one, side)} for side in ("gain", "lose"))
    return {
        "members": gathered.members,
        "classes": len(people),
        "answers": found.asked,
        "gaining": _count(gaining, people),
        "losing": _count(losing, people),
        "routes": [_route(one, people, gathered.wanted.people) for one in found.differences[:routes]],
        "more_routes": max(len(found.differences) - routes, 0),
    }


def _route(found: Difference, people: Sequence[PeopleClass], listed: int) -> dict[str, object]:
    """A route and its people, as `RouteChange` shows it."""
    route = found.route
    return {
        "methods": route.methods,
        "hosts": route.region.hosts,
        "path": route.region.path,
        "own": [{"segment": at + 1, "attribute": name} for at, name in route.own],
        "sequences": sorted(route.sequences),
        "sample": _sample(route),
        "depends_on": route.depends_on,
        "gain": _group(found.gain, people, listed),
        "lose": _group(found.lose, people, listed),
        "conditional": _group(found.conditional, people, listed),
    }


def _sample(route: Route) -> str:
    """A URL of the route. What is somebody's own in it (an e-mail address, a label) is named and not told."""
    segments = route.sample.path.split("/")
    for at, name in route.own:
        segments[at + 1] = f"{{{name}}}"
    return f"https://{route.sample.host}{'/'.join(segments)}"


def _group(indexes: Sequence[int], people: Sequence[PeopleClass], listed: int) -> dict[str, object]:
    """People of some classes: how many, and the first of them."""
    count = _count(indexes, people)
    members = sorted({member for index in indexes if index != NOBODY for member in people[index].members}, key=_order)[:listed]
    shown = [{"profile": member.profile, "org": member.org} for member in members]
    return {"count": count, "anonymous": NOBODY in indexes, "people": shown, "more": count - len(members)}


def _order(member: tuple[UUID, UUID]) -> tuple[UUID, UUID]:
    return member[1], member[0]


def _count(indexes: Iterable[int], people: Sequence[PeopleClass]) -> int:
    return sum(people[index].count for index in indexes if index != NOBODY)
