"""One check, from top to bottom: dialect → canonical → identity → policy → answer.

Nothing here waits for anything. What is known is in memory; what is not known, malformed or in error is a denial.
"""

import logging
from collections.abc import Callable
from typing import Final, NamedTuple

from sidecar import canonical, dialects
from sidecar.asked import Asked
from sidecar.contract import Reason
from sidecar.dialects.routes import NOWHERE, Route, route
from sidecar.http import responses, trust
from sidecar.http.answers import Answer, Answers, Key
from sidecar.http.failures import Failures, holder
from sidecar.http.head import KEYED, Head, Slot, plain
from sidecar.http.trust import Address, TrustedProxies
from sidecar.identity import Refused, api_key, credentials, membership
from sidecar.identity.assertion import KEPT, Assertions
from sidecar.identity.credentials import Credential, Scheme
from sidecar.identity.membership import Member
from sidecar.identity.session_token import SessionTokens
from sidecar.logs import fields, trace_id
from sidecar.metrics import Metrics
from sidecar.policy.compile import CompiledPolicy
from sidecar.policy.decide import decide
from sidecar.policy.model import ANONYMOUS, FOREVER, CanonicalRequest, Decision, Effect, Principal
from sidecar.refusals import Refusals
from sidecar.relay import errand
from sidecar.relay.paths import Reserved, refuse_reserved
from sidecar.replica.catalogue import Application
from sidecar.replica.kept import Stamp
from sidecar.replica.live import Replica
from sidecar.replica.state import State
from sidecar.samples import Samples

log: Final = logging.getLogger(__name__)

ANSWERS_BUDGET: Final = 64 * 1024 * 1024
"""Bytes of finished answers that are kept, about."""
HEADS_BUDGET: Final = 48 * 1024 * 1024
"""The same for heads that were answered."""

_NOBODY: Final = Member(ANONYMOUS, FOREVER, ())
_GUESSES: Final = frozenset({Reason.INVALID_TOKEN, Reason.INVALID_API_KEY})
"""Failures that somebody who tries credentials makes. Whose session has merely ended is not charged."""


class Prepared(NamedTuple):
    """A request that is ready to be decided. `client` is the address whose credential was looked at, None where none was."""

    application: Application
    policy: CompiledPolicy
    request: CanonicalRequest
    member: Member
    client: Address | None


class Parts(NamedTuple):
    """What a check is made of. `clock` gives seconds since the epoch; `monotonic` the seconds of `Replica.confirmed_at`."""

    replica: Replica
    trusted: TrustedProxies
    tokens: SessionTokens
    assertions: Assertions
    failures: Failures
    metrics: Metrics
    samples: Samples
    clock: Callable[[], float]
    monotonic: Callable[[], float]


class Login(NamedTuple):
    """What is known of the login: its page (empty: none), the session cookie's name, whether `/.catalyst/` leads anywhere."""

    url: str
    cookie: str
    relays: bool = False


class Check:
    """Answers checks. `revision` and `stale` describe the answer given last: the caller writes them beside it."""

    def __init__(self, parts: Parts, *, max_staleness: float, serve_stale: bool, login: Login) -> None:
        (
            self._replica,
            self._trusted,
            self._tokens,
            self._assertions,
            self._failures,
            self._metrics,
            self._samples,
            self._clock,
            self._monotonic,
        ) = parts
        self._max_staleness = max_staleness
        self._serve_stale = serve_stale
        self._login = login
        self._cookies = credentials.session_cookies(login.cookie)
        self._login_cookies = errand.cookie_names(login.cookie)
        self._refusals = Refusals(self._metrics, login.url, relays=login.relays)
        self._answers: Answers[Key] = Answers(ANSWERS_BUDGET)
        self.heads: Answers[bytes] = Answers(HEADS_BUDGET)
        """Answers by the head they were given to, byte for byte: for the connections' use."""
        self._state: State | None = None
        self._latest = Stamp()
        self._latest.valid = False
        self._revision = 0
        self.revision = b"0"
        self.stale = False

    def answer(self, head: Head) -> Answer:
        """The answer to a request. Never raises: what goes wrong is a denial."""
        try:
            answer = self._answers.young.get(tuple(head[:KEYED]))
            if answer is not None and self.may_repeat(answer):
                return answer
            return self._answer_slow(head)
        except Exception as error:  # noqa: BLE001 - the edge of a request: whatever it is, it denies and counts
            return self._internal_error(head, error)

    def may_repeat(self, answer: Answer) -> bool:
        """Whether nothing at all has changed since the answer was last looked at. False says nothing: look again."""
        replica = self._replica
        return (
            answer.checked is self._latest
            and self._latest.valid
            and replica.state is self._state
            and self._monotonic() - replica.confirmed_at <= self._max_staleness
            and not self.stale
            and answer.until > self._clock()
            and not (self._failures.any and answer.client is not None and self._failures.too_many(answer.client))
        )

    def refuse(self, head: Head, reason: Reason) -> Answer:
        """A refusal for a reason that lies outside of what was asked."""
        url = head[Slot.URL]
        return self._refusals.deny(Asked(head, route(url) if url is not None else NOWHERE), reason)

    def unfit(self) -> Reason | None:
        """Why the replica cannot be relied on right now, None where it can. Notes revision and staleness for the answer."""
        state = self._replica.state
        if state is None:
            return Reason.NOT_READY
        if state is not self._state:
            self._answers.forget()
            self.heads.forget()
            self._tokens.forget()
            self._state = state
        if not self._latest.valid or self._latest is not state.latest:
            self._latest, self._revision = state.latest, state.revision
            self.revision = b"%d" % state.revision
        self.stale = self._monotonic() - self._replica.confirmed_at > self._max_staleness
        return Reason.STALE if self.stale and not self._serve_stale else None

    def _answer_slow(self, head: Head) -> Answer:
        """The answer with everything looked at: the replica, what is kept, and where nothing is, the request itself."""
        unfit = self.unfit()
        if unfit is not None:
            return self.refuse(head, unfit)
        key = tuple(head[:KEYED])
        kept = self._answers.recall(key)
        return kept if kept is not None and self._still_holds(kept) else self._answer_anew(head, key)

    def _still_holds(self, answer: Answer) -> bool:
        """Whether a kept answer may be given again."""
        if answer.until <= self._clock() or not all(stamp.valid for stamp in answer.stamps):
            return False
        answer.checked = self._latest
        return answer.client is None or not self._failures.too_many(answer.client)

    def _answer_anew(self, head: Head, key: Key) -> Answer:
        """The answer worked out from the request, and kept where that is possible."""
        asked = Asked(head)
        try:
            answer = self._decide(asked)
        except (dialects.Malformed, trust.Malformed):
            return self._refusals.deny(asked, Reason.MALFORMED_REQUEST)
        except Reserved as reserved:
            return self._relay(asked, reserved)
        except (canonical.Refused, Refused) as refused:
            return self._refusals.deny(asked, refused.reason)
        if answer.until > self._clock():
            answer.checked = self._latest
            self._answers.keep(key, answer)
        return answer

    def _decide(self, asked: Asked) -> Answer:
        """The whole way of a request. Raises what the steps raise; the only place where an allow is made.

        What is noted of it for samples and shadows comes last: the answer is made by then.
        """
        now = self._clock()
        application, policy, request, member, client = self.prepare(asked, now)
        decision = decide(policy, request, member.principal, now)
        until, stamps = min(member.until, decision.until), (application.stamp, *member.stamps)
        if decision.effect is not Effect.ALLOW:
            answer = self._refusals.deny(asked, decision.reason, decision.step_up)
        elif asked.route.retells:
            return self._refusals.send_back(asked)
        else:
            answer = self._allow(asked.route, application, policy, request, member.principal, decision)
            until = min(until, now + KEPT) if application.assertions else until
        answer.keep(until, stamps, client)
        if not asked.route.retells:
            self._samples.note(now, application, self._revision, request, member, decision)
        return answer

    def prepare(self, asked: Asked, now: float, member: Member | None = None) -> Prepared:
        """Everything that the policy engine needs to decide. Raises `Refused`, `Malformed`, `canonical.Refused`.

        `member` stands in for the request's own credential where somebody asks what another one may do.
        """
        head, state = asked.head, self._state
        if state is None:
            raise Refused(Reason.NOT_READY)
        asked.route = route(head[Slot.URL] or b"")
        _refuse_faults(asked)
        asked.question = question = asked.route.question(head)
        client = self._trusted.client(question.forwarded_for)
        asked.request = request = canonical.canonical(question.method, question.scheme, question.host, question.target, client)
        application = state.application(request.host)
        if application is None:
            raise Refused(Reason.UNKNOWN_HOST)
        refuse_reserved(request, client)
        if application.policy is None:
            raise Refused(Reason.POLICY_DENIED)
        _refuse_look_alikes(head, application.policy.headers)
        credential = credentials.find(head, self._cookies)
        if member is not None or credential is None:
            return Prepared(application, application.policy, request, member or _NOBODY, None)
        asked.by_cookie = credential[0] is Scheme.COOKIE
        return Prepared(
            application, application.policy, request, self._member(state, credential, client, head[Slot.ORG], now), client
        )

    def _member(self, state: State, credential: Credential, client: Address, org: bytes | None, now: float) -> Member:
        """The principal that a credential proves. Raises `Refused`; a guess is charged to the client's address."""
        if self._failures.too_many(client):
            raise Refused(Reason.TOO_MANY_FAILURES)
        scheme, value = credential
        try:
            proof = api_key.prove(value, state, now) if scheme is Scheme.API_KEY else self._tokens.prove(value, state, now)
            return membership.member(proof, (org or b"").strip(b" \t").decode("latin-1"), state, now)
        except Refused as refused:
            if refused.reason in _GUESSES:
                self._failures.note(client)
            raise

    def _relay(self, asked: Asked, reserved: Reserved) -> Answer:
        """A path of the login's: what the control plane is to be asked, in a refusal that stands until it has answered.

        Never an allow, never kept. The nginx dialect, which could not pass the answer on, is refused.
        """
        asked.login_path = True
        if not (reserved.action and self._login.relays and asked.route.redirects):
            return self._refusals.deny(asked, reserved.reason)
        if self._failures.too_many(reserved.client):
            return self._refusals.deny(asked, Reason.TOO_MANY_FAILURES)
        whose = None if reserved.client in self._trusted else holder(reserved.client)
        try:
            what = errand.errand(asked, reserved.action, whose, self._login.cookie, self._login_cookies)
        except Refused as refused:
            return self._refusals.deny(asked, refused.reason)
        answer = self._refusals.deny(asked, Reason.INTERNAL_ERROR)
        answer.errand = what
        return answer

    def _allow(
        self,
        where: Route,
        application: Application,
        policy: CompiledPolicy,
        request: CanonicalRequest,
        principal: Principal,
        decision: Decision,
    ) -> Answer:
        """The answer to a request that the policy engine allowed."""
        prefixes, assertion = application.entitlement_prefixes, ""
        if application.assertions:
            assertion = self._assertions.sign(principal, request, application.slug, self._revision, self._clock())
        before = responses.allow(
            principal,
            entitlements=[each for each in principal.entitlements if not prefixes or each.startswith(prefixes)],
            reason=decision.reason,
            obligations=decision.obligations,
            assertion=assertion,
            headers=dict.fromkeys(policy.headers, "") | dict(decision.headers),
        )
        return Answer(200, before, b"", self._metrics.tally(where.name, 200, Effect.ALLOW, decision.reason))

    def _internal_error(self, head: Head, error: Exception) -> Answer:
        """The answer to everything that should not have happened. Uses as little as it can of what may just have failed."""
        log.error("check failed", exc_info=error, extra=fields(trace_id=trace_id(head[Slot.TRACEPARENT])))
        before, body = responses.deny(503, Reason.INTERNAL_ERROR, {})
        return Answer(503, before, body, self._metrics.tally(NOWHERE.name, 503, Effect.DENY, Reason.INTERNAL_ERROR))


def _refuse_faults(asked: Asked) -> None:
    """What was wrong with the head already when it was parsed, and paths that lead to no dialect."""
    fault = asked.head[Slot.FAULT]
    if fault is not None:
        raise Refused(Reason(fault.decode()))
    if asked.route is NOWHERE:
        raise Refused(Reason.MALFORMED_REQUEST)


def _refuse_look_alikes(head: Head, custom: tuple[str, ...]) -> None:
    """Headers that an application could take for one of the policy's own: those are set on every allow, look-alikes are not."""
    look_alikes = head[Slot.LOOK_ALIKES]
    if look_alikes is not None and not {plain(name.encode()) for name in custom}.isdisjoint(look_alikes.split(b",")):
        raise Refused(Reason.HEADER_ALIAS)
