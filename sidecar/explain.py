"""`POST /explain`: the same request as JSON, through the same steps, with every rule and why it matched or not.

`{"method", "url", "client"?, "headers"?: {name: value}, "principal"?: {"profile" or "sub", "org", "kind"?, "amr"?, "acr"?,
"auth_time"?, "scopes"?, "entitlements"?}}`. With `principal`, no credential is needed: it asks what that profile may do.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

from sidecar import canonical, dialects
from sidecar.asked import Asked
from sidecar.check import Check, Prepared
from sidecar.contract import Reason
from sidecar.http import trust
from sidecar.http.head import EMPTY, Head, Names, Slot, receive
from sidecar.identity import Proof, Refused
from sidecar.identity.membership import member
from sidecar.ops import Request, Response, as_json
from sidecar.policy.explain import explain
from sidecar.policy.model import Kind
from sidecar.replica.state import State

_KINDS: Final = {"session": Kind.SESSION, "api_key": Kind.API_KEY}


class _Unreadable(ValueError):
    """The question is not as the docstring of this module says."""


class Explain:
    """Answers `POST /explain`. `state` gives the state in force, `clock` seconds since the epoch."""

    def __init__(self, check: Check, state: Callable[[], State | None], clock: Callable[[], float]) -> None:
        self._check = check
        self._state = state
        self._clock = clock

    async def answer(self, request: Request) -> Response:
        """The handler. Only from this machine: it tells what anybody may do."""
        if not request.local:
            return as_json(403, {"error": "local_only", "detail": "ask from the sidecar's own machine"})
        try:
            question = orjson.loads(request.body)
            now = self._clock()
            head, wanted = _head(question), _wanted(question.get("principal"), now)
        except (_Unreadable, ValueError, TypeError, AttributeError, KeyError) as error:
            detail = str(error) if isinstance(error, _Unreadable) else "send a JSON object with method and url"
            return as_json(400, {"error": "malformed_request", "detail": detail})
        unfit = self._check.unfit()
        state = self._state()
        if state is None:
            return as_json(503, {"error": unfit or Reason.NOT_READY})
        return as_json(200, {"revision": state.revision, "unfit": unfit, **self._explain(head, wanted, state, now)})

    def _explain(self, head: Head, wanted: tuple[Proof, str] | None, state: State, now: float) -> dict[str, Any]:
        """The decision with its reasons; a refusal before the policy was asked has no rules."""
        asked = Asked(head)
        try:
            assumed = None if wanted is None else member(*wanted, state, now)
            prepared = self._check.prepare(asked, now, assumed)
        except (dialects.Malformed, trust.Malformed):
            return _refusal(Reason.MALFORMED_REQUEST, asked)
        except (canonical.Refused, Refused) as refused:
            return _refusal(refused.reason, asked)
        explanation = explain(prepared.policy, prepared.request, prepared.member.principal, now)
        return {
            "application": prepared.application.slug,
            "request": prepared.request,
            "principal": prepared.member.principal,
            "explanation": explanation,
            **_beside(prepared, now),
        }


def _beside(prepared: Prepared, now: float) -> dict[str, Any]:
    """What the application's shadow would have said, where there is one."""
    shadow = prepared.application.shadow
    if shadow is None:
        return {}
    draft = {"draft": shadow.row.etag}
    if shadow.policy is None:
        return {"shadow": draft | {"problem": shadow.problem}}
    return {"shadow": draft | {"explanation": explain(shadow.policy, prepared.request, prepared.member.principal, now)}}


def _refusal(reason: Reason, asked: Asked) -> dict[str, Any]:
    """A request that never reached the policy."""
    return {"request": asked.request, "explanation": {"decision": {"effect": "deny", "reason": reason}, "rules": []}}


def _head(question: Mapping[str, Any]) -> Head:
    """The head of a request that asks the same in the nginx dialect, the one that takes a URL as it stands."""
    head: Head = EMPTY.copy()
    head[Slot.URL], head[Slot.METHOD] = b"/forward-auth/nginx", b"GET"
    head[Slot.ORIGINAL_METHOD] = _text(question, "method").encode()
    head[Slot.ORIGINAL_URL] = _text(question, "url").encode()
    head[Slot.FORWARDED_FOR] = _text(question, "client", "127.0.0.1").encode()
    names = Names()
    for name, value in question.get("headers", {}).items():
        receive(head, names, name.encode(), value.encode())
    return head


def _text(question: Mapping[str, Any], name: str, default: str = "") -> str:
    """A text of the question."""
    value = question.get(name, default)
    if not isinstance(value, str) or not value:
        raise _Unreadable(f"{name} must be a text")
    return value


def _wanted(principal: Mapping[str, Any] | None, now: float) -> tuple[Proof, str] | None:
    """What a credential of the named profile would prove, and the org that is meant; None where nobody is named."""
    if principal is None:
        return None
    entitlements = principal.get("entitlements")
    proof = Proof(
        kind=_KINDS[principal.get("kind", "session")],
        profile_id=_text(principal, "profile" if "profile" in principal else "sub"),
        org_id="",
        scopes=frozenset(principal.get("scopes", ())),
        entitlements=None if entitlements is None else frozenset(entitlements),
        amr=frozenset(principal.get("amr", ())),
        acr=str(principal.get("acr", "")),
        auth_time=int(principal.get("auth_time", now)),
    )
    return proof, _text(principal, "org")
