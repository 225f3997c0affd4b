"""The decisions that sidecars sampled, made again: what would a policy that is not in force have answered?

Each is answered twice now, by the policy in force and by the candidate, for the same principal: the recorded login and key, with
the roles, groups and entitlements that the database knows today. What differs between the two answers is the policy's doing only.
The recorded answer stands beside them: where it is not what the policy in force answers today, something else has changed since
(membership, or the policy itself), and the decision is counted as `drifted`, never as a change that the candidate would bring.
Time windows and the age of logins are judged at the moment of the recorded decision.

A session's id is not recorded: decisions by rules that compare it are left out, as is what no policy would be asked about now.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from itertools import chain
from typing import Any, Final, Literal, NamedTuple

from control_plane.changes import Row, Work
from control_plane.policies.comparing import Replay, WantedReplay
from control_plane.policies.diff import candidate, side
from control_plane.policies.people import Member, members, principal_of
from control_plane.policies.stored import SQL, Application, Standing, application_of, standing
from sidecar.canonical import Refused, canonical
from sidecar.contract import Reason
from sidecar.policy import decide
from sidecar.policy.match import Bound
from sidecar.policy.model import ANONYMOUS, CanonicalRequest, Decision, Effect, Kind, Principal
from sidecar.policy.patterns import is_served

_BY_POLICY: Final = {
    Reason.POLICY_DENIED,
    Reason.MISSING_CREDENTIALS,
    Reason.STEP_UP_REQUIRED,
    Reason.AMBIGUOUS_REQUEST,
}
"""What the engine itself answers where no rule decides. Any other reason of the contract came before it was asked."""

Change = Literal["same", "allowed", "denied", "reason"]


@dataclass(frozen=True, slots=True)
class Sample:
    """All that a replay needs, as of one revision."""

    wanted: WantedReplay
    application: Application
    published: Standing
    candidate: Standing
    decisions: Sequence[Row]
    people: Mapping[Member, Principal]
    lost: int
    revision: int


class Answers(NamedTuple):
    """A recorded decision with both answers."""

    row: Row
    published: Decision
    candidate: Decision

    @property
    def change(self) -> Change:
        """What the candidate would change about the answer of the policy in force."""
        if self.published.effect is not self.candidate.effect:
            return "allowed" if self.candidate.effect is Effect.ALLOW else "denied"
        return "same" if _said(self.published) == _said(self.candidate) else "reason"

    @property
    def is_drifted(self) -> bool:
        """Whether the policy in force answers otherwise today than was recorded."""
        return _said(self.published) != (self.row["effect"], self.row["reason"], self.row["rule"])


async def gather(work: Work, reference: str, wanted: WantedReplay) -> Sample:
    """Read both policies, the sample and who is in it, in one snapshot."""
    application = await application_of(work, reference)
    policies = (
        await standing(work, application, "published"),
        await candidate(work, application, wanted.against, wanted.document),
    )
    rows = await work.connection.fetch(SQL.sample, application.id, wanted.since, wanted.limit)
    asking = {Member(row["profile_id"], row["org_id"]) for row in rows if row["profile_id"] is not None}
    people = {member: principal_of(row) async for member, row in members(work, None, asking)}
    lost = await work.connection.fetchval(SQL.lost, application.id)
    return Sample(wanted, application, *policies, rows, people, lost, await work.connection.fetchval(SQL.head))


async def replay(sample: Sample) -> Replay:
    """What would change, worked out off the event loop."""
    return await asyncio.to_thread(_replay, sample)


def _replay(sample: Sample) -> Replay:
    out: Counter[str] = Counter()
    found = [answer for row in sample.decisions if (answer := _answered(sample, row, out)) is not None]
    changes = Counter(answer.change for answer in found)
    differing = [answer for answer in found if answer.change != "same"]
    listed = differing[: sample.wanted.listed]
    return Replay.model_validate(
        {
            "published": side(sample.published).model_dump(),
            "candidate": side(sample.candidate).model_dump(),
            "revision": sample.revision,
            "differs": bool(differing),
            "sampled": len(sample.decisions),
            "replayed": len(found),
            "same": changes["same"],
            "would_be_allowed": changes["allowed"],
            "would_be_denied": changes["denied"],
            "other_reason": changes["reason"],
            "drifted": sum(answer.is_drifted for answer in found),
            "left_out": [{"reason": reason, "count": count} for reason, count in sorted(out.items())],
            "lost": sample.lost,
            "span": _span(sample.decisions),
            "decisions": [_shown(answer) for answer in listed],
            "more": len(differing) - len(listed),
        }
    )


def _answered(sample: Sample, row: Row, out: Counter[str]) -> Answers | None:
    """Both answers to a recorded request; None, and counted, where it cannot be asked again."""
    try:
        request = canonical(row["method"], row["scheme"], row["host"], row["path"].encode(), ip_address(row["client"]))
    except (Refused, ValueError):
        out["unreadable"] += 1
        return None
    principal = _principal(sample, row)
    reason = _why_not(sample, row, request, principal)
    if reason is not None or principal is None:
        out[reason or "not_a_member"] += 1
        return None
    policies = (sample.published.compiled, sample.candidate.compiled)
    published, other = (decide(policy, request, principal, row["at"].timestamp()) for policy in policies)
    return Answers(row, published, other)


def _principal(sample: Sample, row: Row) -> Principal | None:
    """Who asked, as the database knows them now, by the recorded login or key; None where they are no active member any more."""
    if row["kind"] == Kind.ANONYMOUS:
        return ANONYMOUS
    known = sample.people.get(Member(row["profile_id"], row["org_id"]))
    if known is None:
        return None
    narrowed = known.entitlements if row["key_entitlements"] is None else known.entitlements & set(row["key_entitlements"])
    login: dict[str, Any] = {"scopes": frozenset(row["scopes"]), "amr": frozenset(row["amr"]), "acr": row["acr"]}
    auth_time = int(row["auth_time"].timestamp()) if row["auth_time"] else 0
    fields = {name: getattr(known, name) for name in ("sub", "email", "org_id", "org_slug", "groups", "roles", "labels")}
    return Principal(kind=Kind(row["kind"]), entitlements=narrowed, auth_time=auth_time, **login, **fields)


def _why_not(sample: Sample, row: Row, request: CanonicalRequest, principal: Principal | None) -> str | None:
    """Why a decision is not made again; None where it is."""
    if not row["rule"] and row["reason"] in set(Reason) - _BY_POLICY:
        return "not_by_policy"
    if not is_served(request.host, sample.application.hosts):
        return "unknown_host"
    if principal is None:
        return "not_a_member"
    if row["key_ended"]:
        return "key_ended"
    policies = (sample.published.compiled, sample.candidate.compiled)
    asked = chain.from_iterable(leaf.firm for policy in policies for leaf in policy.candidates(request))
    bound = any(isinstance(condition, Bound) and condition.attribute == "session.id" for condition in asked)
    return "session_bound" if bound and principal.kind is Kind.SESSION else None


def _said(decision: Decision) -> tuple[str, str, str]:
    return decision.effect.value, decision.reason, decision.rule


def _span(rows: Sequence[Row]) -> dict[str, object] | None:
    """From when and which revision to which the sample goes."""
    if not rows:
        return None
    times, revisions = ([row[name] for row in rows] for name in ("at", "revision"))
    ends = {"first_at": min(times), "last_at": max(times)}
    return {**ends, "first_revision": min(revisions), "last_revision": max(revisions)}


def _shown(answer: Answers) -> dict[str, object]:
    row = answer.row
    return {
        "at": row["at"],
        "revision": row["revision"],
        "principal": asked_by(row),
        "request": asked_for(row),
        "recorded": verdict(row["effect"], row["reason"], row["rule"]),
        "published": verdict(*_said(answer.published)),
        "candidate": verdict(*_said(answer.candidate)),
        "change": answer.change,
        "drifted": answer.is_drifted,
    }


def asked_by(row: Row) -> dict[str, object]:
    """Who a recorded decision is about."""
    return {"kind": row["kind"], "profile": row["profile_id"], "org": row["org_id"]}


def asked_for(row: Row) -> dict[str, object]:
    """What a recorded decision is about."""
    return {name: row[name] for name in ("method", "scheme", "host", "path", "client")}


def verdict(effect: str, reason: str, rule: str) -> dict[str, object]:
    """An answer as it is shown."""
    return {"effect": effect, "reason": reason, "rule": rule}
