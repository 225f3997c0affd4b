"""The decision: deny beats allow, and what nothing allows is denied."""

from dataclasses import replace
from typing import Final

from sidecar.contract import Reason
from sidecar.policy.compile import CompiledPolicy, Leaf
from sidecar.policy.match import Condition
from sidecar.policy.model import FOREVER, CanonicalRequest, Decision, Kind, Principal

_DENIED: Final = Decision()
_MISSING_CREDENTIALS: Final = Decision(reason=Reason.MISSING_CREDENTIALS.value)
_AMBIGUOUS: Final = Decision(reason=Reason.AMBIGUOUS_REQUEST.value)


def decide(policy: CompiledPolicy, request: CanonicalRequest, principal: Principal, now: float) -> Decision:
    """The decision for `principal` at `now` (seconds since the epoch).

    The first deny rule that matches decides, else the first allow rule. An allow rule counts only where it opens every
    ambiguous sequence of the path; a deny rule matches regardless. Without a match the reason is, in this order:
    `ambiguous_request` (no allow rule of this path opens it), `missing_credentials` (nobody asks), `step_up_required` (a session
    meets all of a rule but what a stronger login brings), `policy_denied`.
    """
    ambiguous = bool(request.exceptions)
    leaves = [
        leaf for leaf in policy.candidates(request) if leaf.takes_method(request) and (not ambiguous or leaf.takes_path(request))
    ]
    nobody = principal.kind is Kind.ANONYMOUS
    near: Leaf | None = None
    until = FOREVER
    for leaf in leaves:
        if nobody and not leaf.anonymous:
            continue
        if leaf.timed:
            until = min(until, *[condition.until(principal, now) for condition in leaf.timed])
        if not _hold(leaf.firm, request, principal, now):
            continue
        if _hold(leaf.login, request, principal, now):
            return _until(leaf.decision, until)
        if near is None and leaf.allows:
            near = leaf
    if ambiguous and not any(leaf.allows for leaf in leaves):
        return _until(_AMBIGUOUS, until)
    if nobody:
        return _until(_MISSING_CREDENTIALS, until)
    if near is not None and principal.kind is Kind.SESSION:
        return Decision(reason=Reason.STEP_UP_REQUIRED.value, step_up=near.step_up, until=until)
    return _until(_DENIED, until)


def _hold(conditions: tuple[Condition, ...], request: CanonicalRequest, principal: Principal, now: float) -> bool:
    """Whether all of them hold."""
    for condition in conditions:  # noqa: SIM110 - half the time of all() over a generator
        if not condition.holds(request, principal, now):
            return False
    return True


def _until(decision: Decision, until: float) -> Decision:
    """The decision with its end; the same object where it has none."""
    return decision if until == FOREVER else replace(decision, until=until)
