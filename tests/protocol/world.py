"""A small world for checks: two orgs, some people, keys and two applications, in a replica without a database."""

import asyncio
import json
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any, Final, NamedTuple, cast
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm

from sidecar.check import Check, Login, Parts
from sidecar.http.failures import Failures
from sidecar.http.listener import Listener
from sidecar.http.protocol import CheckProtocol
from sidecar.http.trust import TrustedProxies
from sidecar.identity.assertion import Assertions
from sidecar.identity.session_token import SessionTokens
from sidecar.metrics import Metrics
from sidecar.relay.relay import SECONDS, Relay
from sidecar.replica.live import Replica
from sidecar.replica.rows import SHAPES, Change
from sidecar.replica.state import State
from sidecar.samples import Samples
from sidecar.settings import networks

ISSUER: Final = "https://id.example.com"
NOW: Final = 1_800_000_000.0
LOGIN: Final = "https://login.example.com/start?x=1"


def uuid(number: int) -> str:
    return str(UUID(int=number))


ACME, GLOBEX, FROZEN = uuid(1), uuid(2), uuid(3)
ALICE, BOB, MALLORY, ROBOT = uuid(11), uuid(12), uuid(13), uuid(14)
SESSION: Final = uuid(21)
SIGNER: Final = Ed25519PrivateKey.from_private_bytes(b"s" * 32)
STRANGER: Final = Ed25519PrivateKey.from_private_bytes(b"x" * 32)
KEY_ID: Final = "00000000000000000000000000000001"
API_KEY: Final = f"cak_{KEY_ID}_{'a' * 64}"
OLD_API_KEY: Final = f"cak_{'0' * 31}2_{'b' * 64}"
REVOKED_API_KEY: Final = f"cak_{'0' * 31}3_{'c' * 64}"

POLICY: Final[dict[str, Any]] = {
    "version": 1,
    "rules": [
        {"id": "public", "effect": "allow", "methods": ["GET", "HEAD"], "paths": ["/public/**"], "when": {"anonymous": True}},
        {
            "id": "read-orders",
            "effect": "allow",
            "methods": ["GET", "HEAD"],
            "paths": ["/api/v1/orders/**", "/orders/**"],
            "when": {"entitlements": {"all": ["orders:read"]}},
            "headers": {"x-tier": "gold"},
            "obligations": {"mask": ["email"]},
        },
        {
            "id": "write-orders",
            "effect": "allow",
            "methods": ["POST"],
            "paths": ["/api/v1/orders/**"],
            "when": {"entitlements": {"all": ["orders:write"]}},
        },
        {"id": "me", "effect": "allow", "paths": ["/me"]},
        {
            "id": "safe",
            "effect": "allow",
            "paths": ["/vault/**"],
            "when": {"mfa": True, "acr": ["urn:gold"], "max_auth_age": "15m"},
        },
        {"id": "inside", "effect": "allow", "paths": ["/inside"], "when": {"anonymous": True, "source": ["198.51.100.0/24"]}},
        {"id": "closed", "effect": "deny", "paths": ["/api/v1/orders/closed"], "reason": "orders_closed"},
        {"id": "raw", "effect": "allow", "paths": ["/raw/*"], "when": {"anonymous": True}, "allow_ambiguous": ["%2f"]},
    ],
}
SIGNED_POLICY: Final[dict[str, Any]] = {"version": 1, "rules": [{"id": "all", "effect": "allow", "paths": ["/**"]}]}


def rows() -> dict[str, list[dict[str, Any]]]:
    """The replicated rows, by relation."""
    jwk = OKPAlgorithm.to_jwk(SIGNER.public_key(), as_dict=True)
    key = {"org_id": ACME, "profile_id": ROBOT, "scopes": ["orders"], "entitlements": None, "expires_at": None, "revoked": False}
    profile: dict[str, Any] = {"kind": "user", "status": "active", "labels": {}, "not_before": None}
    return {
        "orgs": [
            {"id": ACME, "slug": "acme", "status": "active"},
            {"id": GLOBEX, "slug": "globex", "status": "active"},
            {"id": FROZEN, "slug": "frozen", "status": "suspended"},
        ],
        "profiles": [
            profile | {"id": ALICE, "email": "alice@example.com", "labels": {"plan": "pro"}},
            profile | {"id": BOB, "email": "bob@example.com"},
            profile | {"id": MALLORY, "email": "mallory@example.com", "status": "suspended"},
            profile | {"id": ROBOT, "email": None, "kind": "service"},
        ],
        "groups": [
            {"id": uuid(31), "org_id": ACME, "slug": "staff", "parent_id": None},
            {"id": uuid(32), "org_id": ACME, "slug": "sales", "parent_id": uuid(31)},
        ],
        "roles": [{"id": uuid(41), "org_id": ACME, "slug": "clerk"}],
        "memberships": [
            {"id": uuid(51), "org_id": ACME, "profile_id": ALICE},
            {"id": uuid(52), "org_id": GLOBEX, "profile_id": ALICE},
            {"id": uuid(53), "org_id": ACME, "profile_id": BOB},
            {"id": uuid(54), "org_id": ACME, "profile_id": MALLORY},
            {"id": uuid(55), "org_id": ACME, "profile_id": ROBOT},
            {"id": uuid(56), "org_id": FROZEN, "profile_id": BOB},
        ],
        "membership_roles": [{"membership_id": uuid(51), "role_id": uuid(41)}],
        "membership_groups": [{"membership_id": uuid(51), "group_id": uuid(32)}],
        "grants": [
            grant(61, ACME, "role", uuid(41), "orders:read"),
            grant(62, ACME, "group", uuid(31), "orders:write"),
            grant(63, ACME, "profile", ROBOT, "orders:read"),
            grant(64, ACME, "profile", ROBOT, "billing:read"),
            grant(65, ACME, "membership", uuid(53), "orders:read", NOW + 100),
        ],
        "api_keys": [
            key | {"id": KEY_ID, "sha256": digest(API_KEY), "entitlements": ["orders:read", "orders:write"]},
            key | {"id": OLD_API_KEY[4:36], "sha256": digest(OLD_API_KEY), "expires_at": NOW - 1},
            key | {"id": REVOKED_API_KEY[4:36], "sha256": digest(REVOKED_API_KEY), "revoked": True},
        ],
        "session_revocations": [{"session_id": uuid(22), "profile_id": ALICE, "until": NOW + 1000}],
        "signing_keys": [
            {"kid": "key-00001", "algorithm": "EdDSA", "status": "active", "jwk": jwk, "not_after": None},
            {"kid": "key-retired", "algorithm": "EdDSA", "status": "retired", "jwk": jwk, "not_after": None},
        ],
        "applications": [
            {"id": uuid(71), "slug": "orders", "entitlement_prefixes": ["orders:"], "assertions": False},
            {"id": uuid(72), "slug": "signed", "entitlement_prefixes": [], "assertions": True},
            {"id": uuid(73), "slug": "draft", "entitlement_prefixes": [], "assertions": False},
        ],
        "application_hosts": [
            {"host": "orders.example.com", "application_id": uuid(71)},
            {"host": "signed.example.com", "application_id": uuid(72)},
            {"host": "draft.example.com", "application_id": uuid(73)},
        ],
        "policies": [
            {"application_id": uuid(71), "version": 1, "document": POLICY},
            {"application_id": uuid(72), "version": 1, "document": SIGNED_POLICY},
        ],
        "shadow_policies": [],
    }


def grant(number: int, org: str, kind: str, subject: str, entitlement: str, expires_at: float | None = None) -> dict[str, Any]:
    return {
        "id": uuid(number),
        "org_id": org,
        "subject_kind": kind,
        "subject_id": subject,
        "entitlement": entitlement,
        "expires_at": expires_at,
    }


def digest(key: str) -> str:
    return sha256(key.encode()).hexdigest()


def token(
    *,
    sign: Callable[[bytes], bytes] = SIGNER.sign,
    header: Mapping[str, Any] | None = None,
    payload: bytes | None = None,
    without: tuple[str, ...] = (),
    **claims: Any,
) -> str:
    """A session token, Alice's unless said otherwise. A header parameter or claim that is `...` or `without` is left out."""
    values = {
        "iss": ISSUER,
        "aud": "catalyst",
        "sub": ALICE,
        "org": ACME,
        "sid": SESSION,
        "iat": int(NOW) - 10,
        "exp": int(NOW) + 290,
        "auth_time": int(NOW) - 60,
        "amr": ["pwd"],
        "acr": "",
    } | claims
    parameters = {"alg": "EdDSA", "kid": "key-00001", "typ": "session+jwt"} | dict(header or {})
    top = json.dumps({name: value for name, value in parameters.items() if value is not ...}).encode()
    body = payload or json.dumps({name: value for name, value in values.items() if name not in without}).encode()
    signed = base64url(top) + b"." + base64url(body)
    return (signed + b"." + base64url(sign(signed))).decode()


def base64url(data: bytes) -> bytes:
    return urlsafe_b64encode(data).rstrip(b"=")


def make_state() -> State:
    state = State("epoch", 7)
    known = rows()
    for relation in SHAPES:
        state.load(relation, known[relation])
    state.settle()
    return state


class World:
    """The parts of a sidecar around a replica that a test moves by hand. `now` is its clock, `age` how stale the replica is."""

    def __init__(
        self,
        *,
        max_staleness: float = 30.0,
        serve_stale: bool = False,
        login_url: str = LOGIN,
        trusted: str = "127.0.0.0/8",
        session_cookie: str = "catalyst_session",
        relay_url: str = "",
        relay_seconds: float = SECONDS,
    ) -> None:
        self.now = NOW
        self.age = 0.0
        self.replica = Replica()
        self.replica.state = make_state()
        self.replica.confirmed_at = 0.0
        self.trusted = TrustedProxies(networks(trusted))
        self.samples = Samples(100)
        self.metrics = Metrics(samples=self.samples)
        self.failures = Failures(self.trusted, lambda: self.now)
        self.assertions = Assertions(ISSUER, Ed25519PrivateKey.from_private_bytes(b"d" * 32))
        parts = Parts(
            self.replica,
            self.trusted,
            SessionTokens(ISSUER),
            self.assertions,
            self.failures,
            self.metrics,
            self.samples,
            lambda: self.now,
            lambda: self.age,
        )
        self.check = Check(
            parts,
            max_staleness=max_staleness,
            serve_stale=serve_stale,
            login=Login(login_url, session_cookie, relays=bool(relay_url)),
        )
        self.relay = Relay(relay_url, UUID(int=99), self.assertions, self.metrics, lambda: self.now, relay_seconds)

    @property
    def state(self) -> State:
        assert self.replica.state is not None
        return self.replica.state

    def change(self, *changes: tuple[str, str, dict[str, Any]]) -> None:
        """One transaction: (relation, "u" or "d", row) each."""
        self.state.apply(self.state.revision + 1, [Change(*each) for each in changes])
        self.replica.applied(0.0)


def question(
    method: str = "GET", url: str = "https://orders.example.com/me", client: str = "198.51.100.7", **headers: str
) -> bytes:
    """A request in the forwarded dialect, as bytes. `headers`: `x_api_key="…"` is `X-Api-Key: …`."""
    scheme, _, rest = url.partition("://")
    host, _, path = rest.partition("/")
    lines = {
        "Host": "127.0.0.1:8787",
        "X-Forwarded-Method": method,
        "X-Forwarded-Proto": scheme,
        "X-Forwarded-Host": host,
        "X-Forwarded-Uri": "/" + path,
        "X-Forwarded-For": client,
    } | {name.replace("_", "-").title(): value for name, value in headers.items()}
    return raw("GET /forward-auth/traefik HTTP/1.1", lines)


def raw(line: str, headers: Mapping[str, str]) -> bytes:
    """A request as bytes."""
    return "\r\n".join([line, *(f"{name}: {value}" for name, value in headers.items()), "", ""]).encode()


class Reply(NamedTuple):
    """One answer, taken apart."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> str:
        return self.headers.get("x-forward-auth-error", "")


def replies(data: bytes, *, head: bool = False) -> list[Reply]:
    """All answers in `data`. Raises where a byte is left over or a header comes twice."""
    found = []
    while data:
        top, end, data = data.partition(b"\r\n\r\n")
        assert end, top
        first, *lines = top.decode("ascii").split("\r\n")
        pairs = [(name, value) for name, _, value in (line.partition(": ") for line in lines)]
        headers = dict(pairs)
        assert len(headers) == len(pairs), pairs
        length = 0 if head else int(headers["content-length"])
        assert len(data) >= length
        found.append(Reply(int(first.split(" ")[1]), headers, data[:length]))
        data = data[length:]
    return found


class FakeTransport:
    """What a connection writes, and what it did to its transport."""

    def __init__(self, peer: object = ("127.0.0.1", 40000)) -> None:
        self.written = b""
        self.peer = peer
        self.calls: list[str] = []

    def get_extra_info(self, name: str) -> object:
        return self.peer if name == "peername" else None

    def write(self, data: bytes) -> None:
        self.written += data

    def can_write_eof(self) -> bool:
        return True

    def __getattr__(self, name: str) -> Callable[[], None]:
        if name not in {"close", "abort", "write_eof", "pause_reading", "resume_reading"}:
            raise AttributeError(name)
        return lambda: self.calls.append(name)


def ask(world: World, *chunks: bytes, peer: object = ("127.0.0.1", 40000)) -> bytes:
    """What a new connection answers to these bytes."""
    transport = FakeTransport(peer)
    connection = CheckProtocol(Listener(world.check, world.replica, world.trusted.admits, world.relay))
    connection.connection_made(cast("asyncio.BaseTransport", transport))
    for chunk in chunks:
        connection.data_received(chunk)
    return transport.written


def reply(world: World, request: bytes) -> Reply:
    """The one answer to one request."""
    (found,) = replies(ask(world, request))
    return found
