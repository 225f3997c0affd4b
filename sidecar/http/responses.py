"""Answers as bytes: what is allowed carries every identity header, what is denied says one code and nothing else.

An answer is kept in two parts around the number that is written at the last moment: `before` ends with
`x-catalyst-revision: `, `body` comes after the empty line.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from sidecar import contract
from sidecar.contract import MAX_LIST_HEADER_BYTES, Reason
from sidecar.policy.model import Principal, StepUp

_PHRASES: Final = {
    200: "OK",
    302: "Found",
    303: "See Other",
    307: "Temporary Redirect",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    409: "Conflict",
    429: "Too Many Requests",
}
_PHRASE_OTHERWISE: Final = "Service Unavailable"
_RETRY_AFTER: Final = {Reason.TOO_MANY_FAILURES: "60", Reason.NOT_READY: "1", Reason.STALE: "1", Reason.INTERNAL_ERROR: "1"}
_INVALID_CREDENTIAL: Final = {
    Reason.INVALID_TOKEN: "The session token cannot be verified",
    Reason.EXPIRED_TOKEN: "The session token has expired",
    Reason.REVOKED_SESSION: "The session has ended",
    Reason.INVALID_API_KEY: "The API key is not known",
    Reason.EXPIRED_API_KEY: "The API key has expired",
}
_TOKENS: Final = frozenset({"max_age", "mfa"})
"""Parameters that are written without quotes."""
_OF_API_KEYS: Final = frozenset({Reason.INVALID_API_KEY, Reason.EXPIRED_API_KEY})

END: Final = b"\r\n\r\n"
CLOSE: Final = b"\r\nconnection: close"
STALE: Final = f"\r\n{contract.STALE}: true".encode()
REQUEST_ID: Final = f"\r\n{contract.REQUEST_ID_HEADER}: ".encode()
LAST_RESORT: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: 27\r\ncache-control: no-store\r\n"
    b"x-forward-auth-error: internal_error\r\nx-catalyst-revision: 0\r\nconnection: close\r\n\r\n"
    b'{"error": "internal_error"}'
)
"""A refusal that needs nothing."""


class TooLarge(ValueError):
    """A value that must be sent whole or not at all does not fit into a header."""


def safe(value: str, also: str = "") -> str:
    """`value` as it can stand in a header line: unchanged where it can, else percent-encoded (UTF-8).

    `also` names characters that must not stand either. An encoded value has its own `%` encoded too.
    """
    if value.isascii() and value.isprintable() and not any(char in value for char in also):
        return value
    keep = {char for char in map(chr, range(0x20, 0x7F)) if char != "%" and char not in also}
    return "".join(
        char if char in keep else "".join(f"%{byte:02X}" for byte in char.encode("utf-8", "surrogatepass")) for char in value
    )


def listed(values: Iterable[str]) -> str:
    """A sorted, comma-separated list; empty where it would pass the limit: fewer rights, never a cut list."""
    text = ",".join(sorted(safe(value, also=",") for value in values))
    return text if len(text) <= MAX_LIST_HEADER_BYTES else ""


def as_json(value: Mapping[str, Any]) -> str:
    """JSON in ASCII without control bytes; empty where there is nothing. Raises `TooLarge`: a restriction must not get lost."""
    if not value:
        return ""
    text = json.dumps(dict(value), ensure_ascii=True, separators=(",", ":"), sort_keys=True).replace("\x7f", "\\u007f")
    if len(text) > MAX_LIST_HEADER_BYTES:
        raise TooLarge
    return text


def allow(
    principal: Principal,
    *,
    entitlements: Iterable[str],
    reason: str,
    obligations: Mapping[str, Any],
    assertion: str,
    headers: Mapping[str, str],
) -> bytes:
    """The `before` of a 200. `entitlements`: those the application is sent; `headers`: all of the policy's own."""
    sent = list(entitlements)
    entitlements_line = listed(sent)
    values = {
        contract.USER_SUB: principal.sub,
        contract.USER_EMAIL: safe(principal.email, also="%"),  # else "%C3%A9@x.de" would be two people's
        contract.ORG_ID: principal.org_id,
        contract.SESSION_ID: principal.session_id,
        contract.USER_GROUPS: listed(principal.groups),
        contract.USER_ROLES: listed(principal.roles),
        contract.USER_ENTITLEMENTS: entitlements_line,
        contract.USER_SCOPES: listed(principal.scopes),
        contract.USER_LABELS: as_json(principal.labels),
        contract.POLICY_OBLIGATIONS: as_json(obligations),
        contract.AUTH_REASON: reason,
        contract.DECISION_JWT: assertion,
        contract.ENTITLEMENTS_OMITTED: str(len(sent)) if sent and not entitlements_line else "",
        **headers,
    }
    return before(200, {"content-length": "0", **values}.items())


def deny(status: int, reason: str, extra: Mapping[str, str]) -> tuple[bytes, bytes]:
    """`before` and `body` of a refusal."""
    body = json.dumps({"error": reason}).encode()
    return before(status, {**refusal(reason, "application/json", len(body)), **extra}.items()), body


def refusal(reason: str, media_type: str, length: int) -> dict[str, str]:
    """The headers of every refusal, with a body of this kind and length."""
    return {
        "content-type": media_type,
        "content-length": str(length),
        "cache-control": "no-store",
        contract.AUTH_ERROR: reason,
    }


def challenge(reason: Reason, step_up: StepUp | None) -> dict[str, str]:
    """The headers that tell a client what would get it in: `WWW-Authenticate` (RFC 6750, RFC 9470), `Retry-After`."""
    if reason in _RETRY_AFTER:
        return {"retry-after": _RETRY_AFTER[reason]}
    if reason not in _INVALID_CREDENTIAL and reason not in {Reason.MISSING_CREDENTIALS, Reason.STEP_UP_REQUIRED}:
        return {}
    scheme = "Key" if reason in _OF_API_KEYS else "Bearer"
    parameters = {"realm": "catalyst"}
    if reason in _INVALID_CREDENTIAL:
        parameters |= {"error": "invalid_token", "error_description": _INVALID_CREDENTIAL[reason]}
    if reason is Reason.STEP_UP_REQUIRED:
        parameters |= {
            "error": "insufficient_user_authentication",
            "error_description": "A stronger or more recent login is required",
        }
    words = [f'{name}="{_quoted(value)}"' for name, value in parameters.items()]
    words += [
        f"{name}={value}" if name in _TOKENS else f'{name}="{_quoted(value)}"'
        for name, value in step_up_parameters(step_up).items()
    ]
    return {"www-authenticate": f"{scheme} {', '.join(words)}"}


def step_up_parameters(step_up: StepUp | None) -> dict[str, str]:
    """What a stronger login must bring, by the names of OpenID Connect and RFC 9470; `mfa` is a parameter of ours.

    RFC 6750 section 3 lets a challenge hold more than it names: who does not know a parameter passes it over.
    """
    if step_up is None:
        return {}
    parameters = {"acr_values": " ".join(step_up.acr_values)} if step_up.acr_values else {}
    parameters |= {} if step_up.max_age is None else {"max_age": str(step_up.max_age)}
    return parameters | ({"mfa": "true"} if step_up.mfa else {})


def _quoted(value: str) -> str:
    """The inside of a quoted string (RFC 9110 section 5.6.4)."""
    return safe(value).replace("\\", "\\\\").replace('"', '\\"')


def before(status: int, headers: Iterable[tuple[str, str]]) -> bytes:
    """Status line and headers up to the revision's number. Every value passes through `safe` here and nowhere else."""
    lines = [f"HTTP/1.1 {status} {_PHRASES.get(status, _PHRASE_OTHERWISE)}"]
    lines += [f"{name}: {safe(value)}" for name, value in headers]
    return "\r\n".join([*lines, f"{contract.REVISION}: "]).encode("ascii")
