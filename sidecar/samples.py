"""What a sidecar will tell of its decisions: a fair sample of them, what shadows would have decided, which API keys were used.

Noted only where an answer is worked out anew, never where a kept one is given again. All of it is bounded by count, nothing of it
waits, and the answer is made before: whatever goes wrong here is counted and changes no answer.
"""

import logging
from collections import defaultdict
from collections.abc import Callable
from random import random
from typing import Any, Final, NamedTuple

import orjson

from sidecar.identity.membership import Member
from sidecar.logs import fields
from sidecar.policy.decide import decide
from sidecar.policy.model import CanonicalRequest, Decision, Kind
from sidecar.replica.catalogue import Application, Shadow
from sidecar.replica.rows import uuid_text

log: Final = logging.getLogger(__name__)

MOST_KEYS: Final = 10_000
"""API keys whose use waits to be told."""
LARGEST: Final = 3_800
"""Bytes of one decision as JSON. The database takes 4,000 of its own spelling; nothing is cut, as a cut path is another path."""
_NUL: Final = rb"\u0000"


class Sampled(NamedTuple):
    """A decision as it was made, at `at` (seconds since the epoch) and by `revision`.

    `shadow`: the draft beside it and what that said; None where there is none, or one that failed.
    """

    at: float
    application: Application
    revision: int
    request: CanonicalRequest
    member: Member
    decision: Decision
    shadow: tuple[str, Decision] | None = None
    differs: bool = False

    def row(self) -> bytes:
        """As JSON, by the columns of the database's table. No credential, no e-mail address, no label, no query."""
        return orjson.dumps(_told(self) | _told_of_shadow(self.shadow) | {"shadow_differs": self.differs})


class Count:
    """What happened to the decisions of one application beside one draft since it was last told."""

    __slots__ = ("differing", "failed", "lost", "seen")

    def __init__(self) -> None:
        self.seen = self.differing = self.failed = self.lost = 0

    def add(self, other: "Count") -> None:
        """Take over another one's numbers."""
        self.seen += other.seen
        self.differing += other.differing
        self.failed += other.failed
        self.lost += other.lost


Counts = dict[tuple[str, str], Count]
"""By application's id and draft; without a draft: decisions that no shadow was asked about."""


class Reservoir:
    """So many of all that come, each with the same chance (J. S. Vitter, Random Sampling with a Reservoir, algorithm R)."""

    __slots__ = ("_place", "_random", "_room", "_seen", "held")

    def __init__(self, room: int, random: Callable[[], float]) -> None:
        self._room = room
        self._random = random
        self._seen = 0
        self._place = 0
        self.held: list[Sampled] = []

    def passes_over(self) -> bool:
        """Whether the next one is not among them. If it is, `put` follows."""
        seen = self._seen
        self._seen = seen + 1
        self._place = place = seen if seen < self._room else int(self._random() * (seen + 1))
        return place >= self._room

    def put(self, sampled: Sampled) -> Sampled | None:
        """Take it in, and hand back the one that has to go for it."""
        if self._place == len(self.held):
            self.held.append(sampled)
            return None
        before, self.held[self._place] = self.held[self._place], sampled
        return before

    def draw(self) -> list[Sampled]:
        """Take out what was held, and begin anew."""
        held, self.held, self._seen = self.held, [], 0
        return held


class Samples:
    """Of the decisions between two reports `size` are kept (0: none); those first that a shadow would have made otherwise.

    `same`, `differing` and `failed` count what shadows said, `kept` what the database took, `uses_lost` uses of API keys for
    which there was no room: since the start.
    """

    def __init__(self, size: int, random: Callable[[], float] = random) -> None:
        self._size = size
        self._random = random
        self._plain = Reservoir(size, random)
        self._differing = Reservoir(size, random)
        self._counts: Counts = {}
        self._warned: Shadow | None = None
        self.uses: dict[int, float] = {}
        """API keys and when each was last used, in seconds since the epoch."""
        self._passed_over: defaultdict[str, int] = defaultdict(int)
        self._lost = 0
        self.same = self.differing = self.failed = self.kept = self.uses_lost = 0

    @property
    def lost(self) -> int:
        """How many decisions were made and could not be kept, since the start."""
        return self._lost + sum(self._passed_over.values())

    # --- the check's side ------------------------------------------------------------------------------------------------------

    def note(
        self, at: float, application: Application, revision: int, request: CanonicalRequest, member: Member, decision: Decision
    ) -> None:
        """Note a decision, as `Sampled` has it. Never raises."""
        try:
            if member.api_key is not None:
                self._note_use(member.api_key, at)
            if application.shadow is not None:
                self._note_beside(application.shadow, Sampled(at, application, revision, request, member, decision))
            elif self._size:
                # Most decisions of a busy sidecar end here: nothing is made of those that are passed over.
                if self._plain.passes_over():
                    self._passed_over[application.id] += 1
                else:
                    self._take(self._plain, Sampled(at, application, revision, request, member, decision))
        except Exception:  # noqa: BLE001 - the answer is made already, and must not depend on this
            self._lost += 1

    def _note_use(self, key: int, at: float) -> None:
        if key in self.uses or len(self.uses) < MOST_KEYS:
            self.uses[key] = at
        else:
            self.uses_lost += 1

    def _note_beside(self, shadow: Shadow, made: Sampled) -> None:
        """Note a decision with that of the shadow."""
        count = self._count(made.application.id, shadow.row.etag)
        count.seen += 1
        said = self._said(made, shadow)
        if said is None:
            count.failed += 1
            self.failed += 1
        else:
            made = made._replace(shadow=(shadow.row.etag, said), differs=_noticed(said) != _noticed(made.decision))
            count.differing += made.differs
            self.differing += made.differs
            self.same += not made.differs
        reservoir = self._differing if made.differs else self._plain
        if self._size and reservoir.passes_over():
            self._lose(made)
        elif self._size:
            self._take(reservoir, made)

    def _take(self, reservoir: Reservoir, sampled: Sampled) -> None:
        before = reservoir.put(sampled)
        if before is not None:
            self._lose(before)

    def _said(self, made: Sampled, shadow: Shadow) -> Decision | None:
        """What the shadow decides; None where it cannot be read, or breaks the engine, which is told once."""
        if shadow.policy is None:
            return None
        try:
            return decide(shadow.policy, made.request, made.member.principal, made.at)
        except Exception as error:  # what is in force must not hang on a draft
            if self._warned is not shadow:
                self._warned = shadow
                log.warning("shadow failed", exc_info=error, extra=fields(application=made.application.slug))
            return None

    def _count(self, application: str, etag: str) -> Count:
        found = self._counts.get((application, etag))
        if found is None:
            found = self._counts[application, etag] = Count()
        return found

    def _lose(self, sampled: Sampled) -> None:
        self._lost += 1
        self._count(sampled.application.id, sampled.shadow[0] if sampled.shadow else "").lost += 1

    # --- the report's side -----------------------------------------------------------------------------------------------------

    @property
    def waiting(self) -> bool:
        """Whether there is anything to tell."""
        return bool(self.uses or self._counts or self._passed_over or self._plain.held or self._differing.held)

    def draw(self) -> list[Sampled]:
        """Take out what is to be told, at most `size`: those that differ, and as many of the others as there is room for."""
        drawn, others = self._differing.draw(), self._plain.draw()
        while len(drawn) + len(others) > self._size:
            self._lose(others.pop(int(self._random() * len(others))))
        return drawn + others

    def row(self, sampled: Sampled) -> bytes | None:
        """A decision as JSON; None for one that is given up: too large, or nothing that PostgreSQL's texts can hold."""
        try:
            row = sampled.row()
        except TypeError:
            row = _NUL
        if len(row) <= LARGEST and _NUL not in row:
            return row
        self._lose(sampled)
        return None

    def told(self, sent: int, kept: int) -> None:
        """Note how many of those that were sent the database kept: the others refer to what is not there any more."""
        self.kept += kept
        self._lost += sent - kept

    def give_up(self, drawn: list[Sampled]) -> None:
        """Count decisions as lost that will not be told."""
        for sampled in drawn:
            self._lose(sampled)

    def take_counts(self) -> Counts:
        """Take out the counts."""
        for application, lost in self._passed_over.items():
            self._lost += lost
            self._count(application, "").lost += lost
        self._passed_over.clear()
        counts, self._counts = self._counts, {}
        return counts

    def give_back(self, counts: Counts) -> None:
        """Keep counts for the next time that could not be told."""
        for (application, etag), count in counts.items():
            self._count(application, etag).add(count)


def _noticed(decision: Decision) -> tuple[object, ...]:
    """What client and application notice of a decision."""
    return decision.effect, decision.reason, decision.step_up, dict(decision.obligations), dict(decision.headers)


def _told(sampled: Sampled) -> dict[str, Any]:
    at, application, revision, request, member, decision, _, _ = sampled
    principal, key = member.principal, member.api_key
    return {
        "at": at,
        "application_id": application.id,
        "revision": revision,
        "kind": principal.kind,
        "profile_id": principal.sub or None,
        "org_id": principal.org_id or None,
        "api_key_id": uuid_text(key) if principal.kind is Kind.API_KEY and key is not None else None,
        "scopes": sorted(principal.scopes),
        "amr": sorted(principal.amr),
        "acr": principal.acr,
        "auth_time": principal.auth_time or None,
        "method": request.method,
        "scheme": request.scheme,
        "host": request.host,
        "path": request.path,
        "client": str(request.client).partition("%")[0],  # PostgreSQL's addresses have no zone
        "effect": decision.effect,
        "reason": decision.reason,
        "rule": decision.rule,
    }


def _told_of_shadow(shadow: tuple[str, Decision] | None) -> dict[str, Any]:
    if shadow is None:
        return {"shadow_etag": None, "shadow_effect": None, "shadow_reason": None, "shadow_rule": None}
    etag, said = shadow
    return {"shadow_etag": etag, "shadow_effect": said.effect, "shadow_reason": said.reason, "shadow_rule": said.rule}
