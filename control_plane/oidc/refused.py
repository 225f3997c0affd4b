"""Why somebody is not logged in, as a closed set: pages, metrics and audit events say one of these and nothing else."""

from enum import StrEnum
from typing import Final


class Code(StrEnum):
    """What was wrong. The values are stable: they stand in audit events."""

    # The provider cannot be asked, or what it answers is of no use.
    PROVIDER_UNREACHABLE = "provider_unreachable"
    PROVIDER_TIMEOUT = "provider_timeout"
    PROVIDER_ERROR = "provider_error"
    ADDRESS_REFUSED = "address_refused"
    METADATA_INVALID = "metadata_invalid"
    # The provider says no.
    ACCESS_DENIED = "access_denied"
    LOGIN_REQUIRED = "login_required"
    UNMET_REQUIREMENTS = "unmet_requirements"
    CLIENT_REFUSED = "client_refused"
    CODE_REFUSED = "code_refused"
    # The browser brings something else than what was asked for.
    CALLBACK_MALFORMED = "callback_malformed"
    STATE = "state"
    ISSUER_MISSING = "issuer_missing"
    ISSUER_MISMATCH = "issuer_mismatch"
    # A token that is not what it should be.
    TOKEN_MISSING = "token_missing"
    TOKEN_MALFORMED = "token_malformed"
    TYPE = "type"
    ALGORITHM = "algorithm"
    UNKNOWN_KEY = "unknown_key"
    SIGNATURE = "signature"
    AUDIENCE = "audience"
    NONCE = "nonce"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    AUTH_TIME = "auth_time"
    ACCESS_TOKEN_HASH = "access_token_hash"
    SUBJECT = "subject"
    USERINFO_SUBJECT = "userinfo_subject"
    EVENTS = "events"
    NOT_ACCEPTED = "not_accepted"
    # A message that this client takes from a provider, and that is none, or comes too late or again.
    UNKNOWN_PROVIDER = "unknown_provider"
    MALFORMED_REQUEST = "malformed_request"
    TOKEN_TOO_OLD = "token_too_old"
    REPLAYED = "replayed"


PROVIDERS_FAULT: Final = frozenset({Code.PROVIDER_UNREACHABLE, Code.PROVIDER_TIMEOUT, Code.PROVIDER_ERROR})
"""What may pass by itself: the person can try again later."""

NOBODYS_GUESS: Final = PROVIDERS_FAULT | {Code.ADDRESS_REFUSED, Code.METADATA_INVALID, Code.CLIENT_REFUSED}
"""What no browser can bring about: the provider is down, or it and its configuration here do not fit together."""


class Refused(Exception):
    """No login. `detail` is for the log: it holds no token, no address of a person, nothing that the provider wrote."""

    def __init__(self, code: Code, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
