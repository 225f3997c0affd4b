"""What the outside depends on: header names, reason codes, status codes.

The one place for them. Proxies, dashboards and applications are configured with these names; changing one is a breaking change.
"""

from enum import StrEnum
from typing import Final

# --- request headers that a check reads beside those its dialect names ---------------------------------------------------------

API_KEY_HEADER: Final = "x-api-key"
ORG_HEADER: Final = "x-catalyst-org"
MIN_REVISION_HEADER: Final = "x-catalyst-min-revision"
REQUEST_ID_HEADER: Final = "x-request-id"
SESSION_COOKIE: Final = "catalyst_session"

# --- what people log in with, on an application's host --------------------------------------------------------------------------

LOGIN_PATH: Final = "/.catalyst/"
"""Everything below it is the sidecar's on every application's host: no application ever sees a request for it."""
LOGIN_ACTIONS: Final = ("start", "callback", "refresh", "logout", "signed-in")
"""What is asked of the control plane there."""
REFRESH_COOKIE: Final = "catalyst_refresh"
BINDING_COOKIE: Final = "catalyst_binding"
OF_THIS_HOST: Final = "__Host-"
"""Prefix of the session's and the binding's cookie over https (RFC 6265bis section 4.1.3.2): no other host can have set it."""
OVER_TLS: Final = "__Secure-"
"""Prefix over https of the cookie that has a path of its own."""

# --- answer headers -------------------------------------------------------------------------------------------------------------

USER_SUB: Final = "x-user-sub"
USER_EMAIL: Final = "x-user-email"
ORG_ID: Final = "x-org-id"
SESSION_ID: Final = "x-session-id"
USER_GROUPS: Final = "x-user-groups"
USER_ROLES: Final = "x-user-roles"
USER_ENTITLEMENTS: Final = "x-user-entitlements"
USER_SCOPES: Final = "x-user-scopes"
USER_LABELS: Final = "x-user-labels"
POLICY_OBLIGATIONS: Final = "x-policy-obligations"
AUTH_REASON: Final = "x-forward-auth-reason"
REVISION: Final = "x-catalyst-revision"
DECISION_JWT: Final = "x-decision-jwt"

ENTITLEMENTS_OMITTED: Final = "x-user-entitlements-omitted"
AUTH_ERROR: Final = "x-forward-auth-error"
REFRESH: Final = "x-catalyst-refresh"
"""On a 401: where a script gets a new session token and comes back by 307, its request unchanged."""
LOGIN: Final = "x-catalyst-login"
"""On a 401 of that place: where a person has to log in."""
STALE: Final = "x-catalyst-stale"

IDENTITY_HEADERS: Final = (
    USER_SUB,
    USER_EMAIL,
    ORG_ID,
    SESSION_ID,
    USER_GROUPS,
    USER_ROLES,
    USER_ENTITLEMENTS,
    USER_SCOPES,
    USER_LABELS,
    POLICY_OBLIGATIONS,
    AUTH_REASON,
    REVISION,
    DECISION_JWT,
    ENTITLEMENTS_OMITTED,
)
"""On every allow, each of these, empty where there is nothing: an absent one would let the client's own copy through."""

# --- tokens ---------------------------------------------------------------------------------------------------------------------

SESSION_TOKEN_TYPE: Final = "session+jwt"
SESSION_AUDIENCE: Final = "catalyst"
SESSION_ALGORITHMS: Final = ("EdDSA", "ES256")
DECISION_TOKEN_TYPE: Final = "decision+jwt"
RELAY_TOKEN_TYPE: Final = "relay+jwt"
RELAY_ISSUER: Final = "catalyst-sidecar"
RELAY_AUDIENCE: Final = "catalyst-login"
API_KEY_PREFIX: Final = "cak"

# --- limits ---------------------------------------------------------------------------------------------------------------------

MAX_HEAD_BYTES: Final = 32 * 1024
MAX_HEADERS: Final = 128
MAX_URL_BYTES: Final = 8 * 1024
MAX_LIST_HEADER_BYTES: Final = 8 * 1024
MIN_REVISION_WAIT_SECONDS: Final = 0.25

# --- reasons --------------------------------------------------------------------------------------------------------------------


class Reason(StrEnum):
    """Why a request was refused. A deny rule may name a reason of its own instead of `policy_denied`."""

    MALFORMED_REQUEST = "malformed_request"
    AMBIGUOUS_REQUEST = "ambiguous_request"
    HEADER_ALIAS = "header_alias"

    MISSING_CREDENTIALS = "missing_credentials"
    INVALID_TOKEN = "invalid_token"
    EXPIRED_TOKEN = "expired_token"
    REVOKED_SESSION = "revoked_session"
    INVALID_API_KEY = "invalid_api_key"
    EXPIRED_API_KEY = "expired_api_key"
    STEP_UP_REQUIRED = "step_up_required"

    POLICY_DENIED = "policy_denied"
    UNKNOWN_HOST = "unknown_host"
    ORG_REQUIRED = "org_required"
    NOT_A_MEMBER = "not_a_member"
    ORG_SUSPENDED = "org_suspended"
    PROFILE_SUSPENDED = "profile_suspended"
    UNTRUSTED_PEER = "untrusted_peer"

    NO_SUCH_LOGIN_PATH = "no_such_login_path"

    TOO_MANY_FAILURES = "too_many_failures"

    NOT_READY = "not_ready"
    STALE = "stale"
    INTERNAL_ERROR = "internal_error"


STATUS: Final[dict[Reason, int]] = {
    Reason.MALFORMED_REQUEST: 400,
    Reason.AMBIGUOUS_REQUEST: 400,
    Reason.HEADER_ALIAS: 400,
    Reason.MISSING_CREDENTIALS: 401,
    Reason.INVALID_TOKEN: 401,
    Reason.EXPIRED_TOKEN: 401,
    Reason.REVOKED_SESSION: 401,
    Reason.INVALID_API_KEY: 401,
    Reason.EXPIRED_API_KEY: 401,
    Reason.STEP_UP_REQUIRED: 401,
    Reason.POLICY_DENIED: 403,
    Reason.UNKNOWN_HOST: 403,
    Reason.ORG_REQUIRED: 403,
    Reason.NOT_A_MEMBER: 403,
    Reason.ORG_SUSPENDED: 403,
    Reason.PROFILE_SUSPENDED: 403,
    Reason.UNTRUSTED_PEER: 403,
    Reason.NO_SUCH_LOGIN_PATH: 404,
    Reason.TOO_MANY_FAILURES: 429,
    Reason.NOT_READY: 503,
    Reason.STALE: 503,
    Reason.INTERNAL_ERROR: 503,
}
"""The status of each reason. The nginx dialect knows only 401 and 403 and turns the 400s into 403."""
