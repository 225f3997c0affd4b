"""Who and what the provider knows, and every lie that it can be told to tell."""

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tests.providers.liar_tokens import TOKEN_LIES, SigningKey

SILVER, GOLD = "urn:example:silver", "urn:example:gold"
ENDPOINTS = ("discovery", "jwks", "authorize", "token", "userinfo", "end_session")
FAILURES = ("error", "silent", "huge", "not_json", "redirect", "slow")
"""How an endpoint fails: `error_token`, `silent_jwks`, …"""

LIES = (
    TOKEN_LIES
    | {f"{failure}_{endpoint}" for failure in FAILURES for endpoint in ENDPOINTS}
    | {
        "metadata_issuer",  # discovery names another issuer
        "metadata_no_pkce",  # discovery does not say whether S256 is supported
        "metadata_no_pkce_at_all",  # discovery says that it is not
        "metadata_no_end_session",  # discovery names no end_session_endpoint
        "metadata_no_algorithm",  # discovery names only HS256
        "metadata_tokens_only",  # no lie: a cluster or a build service, where nobody logs in
        "metadata_private_endpoints",  # discovery sends the client to an address inside
        "missing_state",
        "wrong_state",
        "wrong_iss",  # RFC 9207: the parameter names somebody else
        "missing_iss",  # RFC 9207: promised in the metadata and not sent
        "replayed_code",  # a code can be used again, by anybody
        "ignores_pkce",
        "no_id_token",
        "userinfo_of_somebody_else",
        "ignores_acr_values",
        "ignores_max_age",  # nobody is asked again, and auth_time stays old
        "ignores_prompt",
        "few_claims",  # the ID token says who, all else only userinfo does
        "wrong_client_secret",  # refuses the client
    }
)


@dataclass
class Person:
    """Somebody who has an account. `second_factor`: whether gold can be reached."""

    subject: str
    email: str
    name: str = ""
    email_verified: Any = True
    groups: list[str] = field(default_factory=list)
    second_factor: bool = True


@dataclass
class Client:
    """Who may send people here. `redirect_uris` None: to any address; `secret` "": a public client."""

    id: str
    secret: str = ""
    redirect_uris: list[str] | None = None
    post_logout_redirect_uris: list[str] | None = None
    backchannel_logout_uri: str = ""


@dataclass
class Login:
    """A browser's session here."""

    subject: str
    sid: str
    auth_time: int
    acr: str
    amr: list[str]
    clients: set[str] = field(default_factory=set)


@dataclass
class Grant:
    """What a code stands for."""

    client: str
    redirect_uri: str
    nonce: str | None
    challenge: str | None
    scope: str
    login: Login
    made: float = field(default_factory=time.monotonic)


class Denied(Exception):
    """An OAuth error: `args` are its code and a description."""


class World:
    """What the provider knows. The client `catalyst` may send people back to any address."""

    def __init__(self, issuer: str, algorithm: str) -> None:
        self.issuer = issuer
        self.lies: set[str] = set()
        self.auto: str | None = None
        self.follow_hint = True
        self.token_seconds = 300
        self.keys = [SigningKey(algorithm)]
        self.clients = {"catalyst": Client("catalyst", "catalyst-secret")}
        self.people = {
            person.subject: person
            for person in (
                Person("alice", "alice@example.com", "Alice Example", groups=["staff", "buyers"]),
                Person("bob", "bob@example.com", "Bob Example", groups=["staff"]),
                Person("carol", "carol@other.example", "Carol Other", second_factor=False),
            )
        }
        self.requests: Counter[str] = Counter()
        self.codes: dict[str, Grant] = {}
        self.logins: dict[str, Login] = {}
        self.access_tokens: dict[str, str] = {}

    def rotate(self, algorithm: str | None = None, *, keep: int = 1) -> None:
        """Sign with a new key from now on; of the old ones `keep` stay in the JWKS."""
        self.keys = [SigningKey(algorithm or self.keys[0].algorithm), *self.keys[:keep]]
