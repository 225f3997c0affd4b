"""Tokens made from API keys at a real sidecar: they open no more than the key does, and end with it."""

from typing import Any

import httpx2
import pytest

from tests.acceptance.test_keys_at_the_sidecar import Scene, scene  # noqa: F401  (a fixture)
from tests.acceptance.tokens import basic, exchange, token_of

STOCK = """\
version: 1
rules:
  - id: read-stock
    effect: allow
    paths: ["/read/**"]
    when: {entitlements: {all: ["stock:read"]}}
  - id: scoped
    effect: allow
    paths: ["/scoped/**"]
    when: {scopes: {all: ["stock"]}}
  - id: fresh
    effect: allow
    paths: ["/fresh/**"]
    when: {max_auth_age: 1h}
"""


@pytest.fixture(scope="module")
def robot(scene: Scene) -> str:  # noqa: F811  (the fixture)
    """A service in acme and in other, which may read the stock of both."""
    admin = scene.admin
    admin.post("/v1/orgs", {"slug": "other", "name": "Other"})
    robot: str = admin.post("/v1/profiles", {"kind": "service", "display_name": "robot"})["id"]
    for org in ("acme", "other"):
        admin.post(f"/v1/orgs/{org}/memberships", {"profile": robot})
        for entitlement in ("stock:read", "stock:write"):
            subject = {"kind": "profile", "id": robot}
            admin.post("/v1/grants", {"org": org, "subject": subject, "entitlement": entitlement})
    admin.post("/v1/applications", {"slug": "stock", "name": "Stock", "hosts": ["stock.example.com"]})
    admin.put_policy("stock", STOCK)
    admin.post("/v1/applications/stock/policy/publish", {})
    return robot


def key_of(scene: Scene, robot: str, **more: Any) -> Any:  # noqa: F811
    return scene.admin.post("/v1/api-keys", {"profile": robot, "org": "acme", "name": "ci", **more})


def ask(scene: Scene, credential: str, path: str, **more: str) -> httpx2.Response:  # noqa: F811
    """What the sidecar answers about a request to the stock, at the newest revision."""
    scheme = "Key" if credential.startswith("cak_") else "Bearer"
    headers = {
        "x-forwarded-method": "GET",
        "x-forwarded-proto": "https",
        "x-forwarded-host": "stock.example.com",
        "x-forwarded-uri": path,
        "x-forwarded-for": "192.0.2.7",
        "authorization": f"{scheme} {credential}",
        "x-catalyst-min-revision": str(scene.admin.revision()),
        **more,
    }
    return scene.answers.get(f"{scene.gate}/forward-auth/traefik", headers=headers)


def said(answer: httpx2.Response) -> str:
    return "allow" if answer.status_code == 200 else answer.headers["x-forward-auth-error"]


def test_what_a_key_restricts_restricts_its_token(scene: Scene, robot: str) -> None:  # noqa: F811
    whole = key_of(scene, robot, scopes=["stock", "more"])
    narrow = key_of(scene, robot, entitlements=["stock:write", "orders:read"])
    nothing = key_of(scene, robot, entitlements=[])
    expected = {
        whole["secret"]: ("allow", "allow", "orders:read,stock:read,stock:write", "more,stock"),
        narrow["secret"]: ("policy_denied", "policy_denied", "orders:read,stock:write", ""),
        nothing["secret"]: ("policy_denied", "policy_denied", "", ""),
    }
    for secret, (read, scoped, entitlements, scopes) in expected.items():
        token = token_of(scene.admin.url, exchange(secret))["access_token"]
        # As the key itself, on each path.
        for credential in (secret, token):
            assert (said(ask(scene, credential, "/read/1")), said(ask(scene, credential, "/scoped/1"))) == (read, scoped)
        if read == "allow":
            answer = ask(scene, token, "/read/1")
            assert (answer.headers["x-user-entitlements"], answer.headers["x-user-scopes"]) == (entitlements, scopes)
            assert answer.headers["x-user-sub"] == robot
            assert answer.headers["x-session-id"]


def test_scope_narrows_further(scene: Scene, robot: str) -> None:  # noqa: F811
    key = key_of(scene, robot, scopes=["stock", "more"])
    for scope, answer in (("stock", "allow"), ("more", "policy_denied"), ("more stock", "allow")):
        token = token_of(scene.admin.url, exchange(key["secret"], scope=scope))["access_token"]
        assert said(ask(scene, token, "/scoped/1")) == answer


def test_a_token_of_a_key_is_good_in_the_keys_org_alone(scene: Scene, robot: str) -> None:  # noqa: F811
    key = key_of(scene, robot)
    token = token_of(scene.admin.url, {"grant_type": "client_credentials"}, auth=basic(key["id"], key["secret"]))["access_token"]
    session = scene.session("acme", robot)["token"]
    for credential, other in ((key["secret"], "not_a_member"), (token, "not_a_member"), (session, "allow")):
        assert said(ask(scene, credential, "/read/1", **{"x-catalyst-org": "acme"})) == "allow"
        assert said(ask(scene, credential, "/read/1", **{"x-catalyst-org": "other"})) == other


def test_a_machine_has_not_just_logged_in(scene: Scene, robot: str) -> None:  # noqa: F811
    token = token_of(scene.admin.url, exchange(key_of(scene, robot)["secret"]))["access_token"]
    assert said(ask(scene, token, "/fresh/1")) == "step_up_required"
    assert said(ask(scene, scene.session("acme", robot)["token"], "/fresh/1")) == "allow"


def test_the_end_of_a_key_ends_its_tokens_at_the_sidecar(scene: Scene, robot: str) -> None:  # noqa: F811
    revoked, rotated, overlapping, deleted = (key_of(scene, robot) for _ in range(4))
    tokens = {
        key["id"]: token_of(scene.admin.url, exchange(key["secret"]))["access_token"] for key in (revoked, rotated, overlapping)
    }
    assert {said(ask(scene, token, "/read/1")) for token in tokens.values()} == {"allow"}
    # The very revision that ends the key ends what was made from it.
    for path, body in ((f"{revoked['id']}/revoke", None), (f"{rotated['id']}/rotate", {"overlap_seconds": 0})):
        scene.change(f"/v1/api-keys/{path}", body)
        assert said(ask(scene, tokens[path.partition("/")[0]], "/read/1")) == "revoked_session"
    scene.change(f"/v1/api-keys/{overlapping['id']}/rotate", {"overlap_seconds": 3600})
    assert said(ask(scene, tokens[overlapping["id"]], "/read/1")) == "allow"
    token = token_of(scene.admin.url, exchange(deleted["secret"]))["access_token"]
    scene.execute("DELETE FROM catalyst.api_keys WHERE id = %s", deleted["id"])
    assert said(ask(scene, token, "/read/1")) == "revoked_session"
