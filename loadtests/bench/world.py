"""A database with 10,000 people in it, and the tokens they carry: what the benches ask about.

Written by SQL as the control plane's role would, so the triggers that number and announce changes do their work.
"""

import base64
import json
import time
import uuid
from dataclasses import dataclass
from typing import Any

import jwt
import psycopg
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sidecar.contract import SESSION_AUDIENCE, SESSION_TOKEN_TYPE

ISSUER = "http://127.0.0.1:8080"
HOST = "orders.example.com"
ORG = uuid.UUID(int=0xB0)
KID = "bench-key-1"
TOKEN_SECONDS = 7200

POLICY: dict[str, Any] = {
    "version": 1,
    "rules": [
        {"id": "health", "effect": "allow", "methods": ["GET"], "paths": ["/public/health"], "when": {"anonymous": True}},
        {"id": "frozen", "effect": "deny", "paths": ["/api/**"], "when": {"labels": {"require": {"frozen": True}}}},
        {
            "id": "read-orders",
            "effect": "allow",
            "methods": ["GET", "HEAD"],
            "paths": ["/api/v1/orders/**"],
            "when": {"entitlements": {"all": ["orders:read"]}},
        },
        {
            "id": "write-orders",
            "effect": "allow",
            "methods": ["POST", "PUT", "DELETE"],
            "paths": ["/api/v1/orders/**"],
            "when": {"entitlements": {"all": ["orders:write"]}, "mfa": True},
        },
    ],
}


@dataclass(frozen=True, slots=True)
class Person:
    """One profile with one session, and the path that it asks for."""

    profile: uuid.UUID
    session: uuid.UUID
    token: str
    path: str

    def request(self) -> bytes:
        """The request head that Traefik 3.7 sends to a forward-auth server for this person; X-Request-Id is to be overwritten."""
        lines = (
            "GET /forward-auth/traefik HTTP/1.1",
            "Host: 127.0.0.1:8787",
            "User-Agent: acme-batch/1.0",
            "Accept: application/json",
            f"Authorization: Bearer {self.token}",
            "X-Forwarded-For: 203.0.113.9",
            f"X-Forwarded-Host: {HOST}",
            "X-Forwarded-Method: GET",
            "X-Forwarded-Port: 443",
            "X-Forwarded-Proto: https",
            "X-Forwarded-Server: edge-1",
            f"X-Forwarded-Uri: {self.path}",
            "X-Real-Ip: 203.0.113.9",
            "X-Request-Id: 0000000000000000",
            "Accept-Encoding: gzip",
        )
        return "\r\n".join((*lines, "", "")).encode()


def make_people(count: int, key: Ed25519PrivateKey) -> list[Person]:
    """`count` people, each with a token of its own (EdDSA, valid for two hours) and a path of its own."""
    now = int(time.time())
    people = []
    for number in range(count):
        profile, session = uuid.uuid4(), uuid.uuid4()
        claims = {
            "iss": ISSUER,
            "aud": SESSION_AUDIENCE,
            "sub": str(profile),
            "org": str(ORG),
            "sid": str(session),
            "iat": now,
            "exp": now + TOKEN_SECONDS,
            "auth_time": now,
            "amr": ["pwd", "otp"],
            "acr": "",
        }
        token = jwt.encode(claims, key, algorithm="EdDSA", headers={"kid": KID, "typ": SESSION_TOKEN_TYPE})
        people.append(Person(profile, session, token, f"/api/v1/orders/{number}?expand=items"))
    return people


def fill(url: str, people: list[Person], key: Ed25519PrivateKey) -> None:
    """Write the org, its people with sessions and one role, the application with its policy, and the signing key."""
    raw = key.public_key().public_bytes_raw()
    jwk = {"kty": "OKP", "crv": "Ed25519", "kid": KID, "x": base64.urlsafe_b64encode(raw).rstrip(b"=").decode()}
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute("SET search_path = catalyst")
        cursor.execute("SELECT set_config('catalyst.orgs', '*', true)")
        cursor.execute(
            "INSERT INTO signing_keys (kid, algorithm, status, public_jwk, private_wrapped)"
            " VALUES (%s, 'EdDSA', 'active', %s, '')",
            (KID, json.dumps(jwk)),
        )
        cursor.execute("INSERT INTO orgs (id, slug, name) VALUES (%s, 'bench', 'Bench')", (ORG,))
        cursor.execute("INSERT INTO roles (org_id, slug, name) VALUES (%s, 'reader', 'Reader') RETURNING id", (ORG,))
        row = cursor.fetchone()
        assert row is not None
        role = row[0]
        cursor.execute(
            "INSERT INTO grants (org_id, subject_kind, role_id, entitlement) VALUES (%s, 'role', %s, 'orders:read')", (ORG, role)
        )
        _fill_people(cursor, people, role)
        _fill_application(cursor)


def _fill_people(cursor: psycopg.Cursor[Any], people: list[Person], role: uuid.UUID) -> None:
    profiles = [person.profile for person in people]
    cursor.execute(
        "INSERT INTO profiles (id, email, labels)"
        " SELECT id, id || '@example.com', jsonb_build_object('plan', 'pro') FROM unnest(%s::uuid[]) AS id",
        (profiles,),
    )
    cursor.execute("INSERT INTO memberships (org_id, profile_id) SELECT %s, unnest(%s::uuid[])", (ORG, profiles))
    cursor.execute(
        "INSERT INTO membership_roles (membership_id, role_id, org_id) SELECT id, %s, org_id FROM memberships WHERE org_id = %s",
        (role, ORG),
    )
    cursor.execute(
        "INSERT INTO sessions (id, org_id, profile_id, amr, token_expires_at)"
        " SELECT session, %s, profile, '{pwd,otp}', now() + make_interval(secs => %s)"
        " FROM unnest(%s::uuid[], %s::uuid[]) AS people (session, profile)",
        (ORG, TOKEN_SECONDS, [person.session for person in people], profiles),
    )


def _fill_application(cursor: psycopg.Cursor[Any]) -> None:
    cursor.execute("INSERT INTO applications (slug, name) VALUES ('orders', 'Orders') RETURNING id")
    row = cursor.fetchone()
    assert row is not None
    document = json.dumps(POLICY)
    cursor.execute("INSERT INTO application_hosts (host, application_id) VALUES (%s, %s)", (HOST, row[0]))
    cursor.execute(
        "INSERT INTO policy_versions (application_id, version, source, media_type, document)"
        " VALUES (%s, 1, %s, 'application/json', %s)",
        (row[0], document, document),
    )
    cursor.execute("INSERT INTO published_policies (application_id, version, document) VALUES (%s, 1, %s)", (row[0], document))
