"""What a page says for a code. Many codes say where something went wrong, for whoever mends it; people want to know what to do.

The code itself stands in the audit event, beside the request id that the page shows.
"""

from typing import Final

_UNTRUSTED: Final = (
    "access_token_hash",
    "algorithm",
    "audience",
    "auth_time",
    "code_refused",
    "events",
    "issuer_mismatch",
    "issuer_missing",
    "nonce",
    "not_accepted",
    "replayed",
    "signature",
    "subject",
    "token_malformed",
    "token_missing",
    "token_too_old",
    "type",
    "unknown_key",
    "userinfo_subject",
)

_SAID: Final[dict[str, str]] = {
    **dict.fromkeys(_UNTRUSTED, "answer_untrusted"),
    "expired": "clocks_differ",
    "not_yet_valid": "clocks_differ",
    "provider_error": "provider_unreachable",
    "provider_timeout": "provider_unreachable",
    "address_refused": "provider_misconfigured",
    "client_refused": "provider_misconfigured",
    "metadata_invalid": "provider_misconfigured",
    "callback_malformed": "bad_request",
    "malformed_request": "bad_request",
    "handoff_refused": "other_browser",
    "invalid_return_to": "unknown_return",
    "provider_unavailable": "unknown_provider",
    "state": "other_browser",
    "too_many_rounds": "loop",
    "try_again": "unavailable",
}


def said_for(code: str) -> str:
    """The messages `reason.<this>.…` that are shown for a code: the code's own, where there is no other."""
    return _SAID.get(code, code)
