"""From a change at the control plane to the answer of a sidecar: two processes that meet only in the database."""

from pathlib import Path
from typing import Any

import httpx2
import jwt

from tests.acceptance.plane import Api, bootstrapped
from tests.acceptance.processes import Program, control_plane, sidecar

POLICY = """\
version: 1
rules:
  - id: read-orders
    effect: allow
    methods: [GET]
    paths: ["/orders/**"]
    when: {entitlements: {all: ["orders:read"]}}
"""


def check(program: Program, token: str, revision: int) -> httpx2.Response:
    """What Traefik asks before GET https://orders.example.com/orders/1 goes on."""
    headers = {
        "x-forwarded-method": "GET",
        "x-forwarded-proto": "https",
        "x-forwarded-host": "orders.example.com",
        "x-forwarded-uri": "/orders/1",
        "x-forwarded-for": "192.0.2.7",
        "authorization": f"Bearer {token}",
        "x-catalyst-min-revision": str(revision),
    }
    return httpx2.get(f"{program.url}/forward-auth/traefik", headers=headers)


def changed(admin: Api, method: str, path: str, body: Any = None) -> tuple[Any, int]:
    """The answer to a change, and its revision."""
    answer = admin.client.request(method, path, json=body)
    assert answer.is_success, answer.text
    return answer.json() if answer.content else None, int(answer.headers["x-catalyst-revision"])


def test_what_is_granted_passes_and_what_is_taken_back_does_not(database: Any, tmp_path: Path) -> None:
    administrator = bootstrapped(database.url("catalyst_control"))
    with (
        control_plane(database.url("catalyst_control"), tmp_path / "control.log") as plane,
        sidecar(database.url("catalyst_sidecar"), tmp_path / "sidecar.log") as gate,
    ):
        admin = Api(plane.url, administrator.api_key)
        org = admin.post("/v1/orgs", {"slug": "acme", "name": "Acme"})["id"]
        ann = admin.post("/v1/profiles", {"kind": "user", "email": "ann@example.com", "display_name": "Ann"})["id"]
        admin.post("/v1/orgs/acme/memberships", {"profile": ann})
        subject = {"kind": "profile", "id": ann}
        grant = admin.post("/v1/grants", {"org": "acme", "subject": subject, "entitlement": "orders:read"})["id"]
        admin.post("/v1/applications", {"slug": "orders", "name": "Orders", "hosts": ["orders.example.com"], "assertions": True})
        admin.put_policy("orders", POLICY)
        _, revision = changed(admin, "POST", "/v1/applications/orders/policy/publish", {})
        session = admin.post("/v1/sessions", {"profile": ann, "org": "acme"})

        allowed = check(gate, session["token"], revision)
        assert allowed.status_code == 200, allowed.text
        assert (allowed.headers["x-user-sub"], allowed.headers["x-org-id"]) == (ann, org)
        assert (allowed.headers["x-session-id"], allowed.headers["x-user-entitlements"]) == (session["id"], "orders:read")
        assert int(allowed.headers["x-catalyst-revision"]) >= revision
        assert_assertion(admin, allowed.headers["x-decision-jwt"], ann)

        _, revision = changed(admin, "DELETE", f"/v1/grants/{grant}")
        assert (check(gate, session["token"], revision).status_code) == 403
        _, revision = changed(admin, "POST", "/v1/grants", {"org": "acme", "subject": subject, "entitlement": "orders:read"})
        assert check(gate, session["token"], revision).status_code == 200

        _, revision = changed(admin, "POST", f"/v1/sessions/{session['id']}/revoke")
        denied = check(gate, session["token"], revision)
        assert (denied.status_code, denied.headers["x-forward-auth-error"]) == (401, "revoked_session")

        others = [admin.post("/v1/sessions", {"profile": ann, "org": "acme"})["token"] for _ in range(2)]
        assert [check(gate, token, 0).status_code for token in others] == [200, 200]
        _, revision = changed(admin, "POST", f"/v1/profiles/{ann}/sessions/revoke")
        assert [check(gate, token, revision).headers["x-forward-auth-error"] for token in others] == ["revoked_session"] * 2
        fresh = admin.post("/v1/sessions", {"profile": ann, "org": "acme"})["token"]
        assert check(gate, fresh, 0).status_code == 200

        _, revision = changed(admin, "POST", "/v1/signing-keys/rotate")
        rotated = admin.post("/v1/sessions", {"profile": ann, "org": "acme"})["token"]
        assert [check(gate, token, revision).status_code for token in (fresh, rotated)] == [200, 200]
        _, revision = changed(admin, "PATCH", "/v1/orgs/acme", {"status": "suspended"})
        assert check(gate, rotated, revision).headers["x-forward-auth-error"] == "org_suspended"
        admin.close()
        assert (plane.stop(), gate.stop()) == (0, 0)


def assert_assertion(admin: Api, token: str, profile: str) -> None:
    """The application verifies the sidecar's assertion by the control plane's JWKS."""
    keys = jwt.PyJWKSet.from_dict(admin.with_credential(None).get("/.well-known/jwks.json"))
    key = keys[jwt.get_unverified_header(token)["kid"]]
    claims = jwt.decode(token, key, algorithms=["EdDSA"], audience="orders")
    assert claims["sub"] == profile
    assert claims["host"] == "orders.example.com"
