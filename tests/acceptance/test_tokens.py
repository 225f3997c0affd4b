"""Tokens for machines: what they are given for, what they can do, and what is refused."""

import base64
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jwt
import pytest

from control_plane.tokens.endpoint import metadata
from tests.acceptance.plane import Api, Plane, Tenant, make_tenant, settings_for
from tests.acceptance.tokens import API_KEY, EXCHANGE, JWT, ask, basic, exchange, http, refused, token_of

READS = ["catalyst:orgs:read", "catalyst:sessions:read"]


@pytest.fixture
def acme(admin: Api) -> Tenant:
    """An org with a service that may read."""
    return make_tenant(admin, "acme", [*READS, "orders:read"])


def key_of(admin: Api, tenant: Tenant, **more: Any) -> Any:
    return admin.post("/v1/api-keys", {"profile": tenant.profile, "org": tenant.slug, "name": "ci", **more})


def said_by(token: str) -> dict[str, Any]:
    found: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return found


def test_an_api_key_is_exchanged_for_a_session_token(plane: Plane, admin: Api, acme: Tenant) -> None:
    key = key_of(admin, acme, scopes=["b", "a"], entitlements=["orders:read", "catalyst:orgs:read"])
    issued = token_of(plane.url, exchange(key["secret"]))
    assert issued["issued_token_type"] == JWT
    assert 290 <= issued["expires_in"] <= 300
    assert issued["scope"] == "a b"
    claims = said_by(issued["access_token"])
    assert (claims["sub"], claims["org"], claims["aud"]) == (acme.profile, acme.id, "catalyst")
    assert (claims["scope"], claims["entitlements"]) == ("a b", ["catalyst:orgs:read", "orders:read"])
    assert claims["org_only"] is True
    # Nobody logged in: no rule about that is met by it.
    assert (claims["amr"], claims["acr"], claims["auth_time"]) == ([], "", 0)
    assert admin.get(f"/v1/api-keys/{key['id']}")["last_used_at"] is not None
    event = admin.last_event()
    assert (event["type"], event["resource"], event["org"]) == ("session.created", claims["sid"], acme.id)
    assert (event["after"]["made_from"], event["after"]["api_key"]) == ("api_key", key["id"])
    assert event["actor"] == {"kind": "api_key", "id": key["id"], "profile": acme.profile}
    assert event["address"] == "127.0.0.1"


def test_a_client_of_which_nothing_is_restricted_gets_a_token_that_says_so(plane: Plane, admin: Api, acme: Tenant) -> None:
    key = key_of(admin, acme)
    issued = token_of(plane.url, {"grant_type": "client_credentials"}, auth=basic(key["id"], key["secret"]))
    assert "scope" not in issued
    assert "issued_token_type" not in issued
    claims = said_by(issued["access_token"])
    assert "entitlements" not in claims
    assert claims["org_only"] is True
    assert admin.last_event()["after"]["made_from"] == "client_credentials"


@pytest.mark.parametrize("form", ["dashes", "cak"])
@pytest.mark.parametrize("way", ["basic", "post"])
def test_client_credentials(plane: Plane, admin: Api, acme: Tenant, way: str, form: str) -> None:
    key = key_of(admin, acme, scopes=["orders"])
    name = key["id"] if form == "dashes" else key["secret"][:36]
    asked = {"grant_type": "client_credentials", "scope": "orders"}
    if way == "basic":
        issued = token_of(plane.url, asked, auth=basic(name, key["secret"]))
    else:
        issued = token_of(plane.url, {**asked, "client_id": name, "client_secret": key["secret"]})
    assert issued["scope"] == said_by(issued["access_token"])["scope"] == "orders"
    assert admin.with_credential(issued["access_token"]).get("/v1/orgs/acme")["slug"] == "acme"


def test_the_api_honours_what_the_key_restricts(plane: Plane, admin: Api, acme: Tenant) -> None:
    """No escalation through exchange: the token can do what the key can, and is recorded as the key."""
    narrow = key_of(admin, acme, entitlements=["catalyst:orgs:read"])
    old = key_of(admin, acme)
    # What the profile is given later does not come to a key that was made before, nor to a token of it.
    subject = {"kind": "membership", "id": acme.membership}
    admin.post("/v1/grants", {"org": "acme", "subject": subject, "entitlement": "catalyst:grants:read"})
    for key, sessions in ((narrow, 403), (old, 200)):
        caller = admin.with_credential(token_of(plane.url, exchange(key["secret"]))["access_token"])
        caller.get("/v1/orgs/acme")
        caller.get("/v1/sessions", sessions)
        caller.get("/v1/grants", 403, org="acme")
        denied = admin.get("/v1/audit-events", type="access.denied", limit=1)["items"][0]
        assert denied["actor"] == {"kind": "api_key", "id": key["id"], "profile": acme.profile}


def test_a_token_of_an_administrators_narrow_key_administers_nothing(own_plane: Plane, own_admin: Api) -> None:
    org = own_admin.get("/v1/orgs")["items"][0]["slug"]
    body = {"profile": str(own_plane.administrator.profile), "org": org, "name": "reader", "entitlements": ["catalyst:orgs:read"]}
    key = own_admin.post("/v1/api-keys", body)
    token = token_of(own_plane.url, exchange(key["secret"]))["access_token"]
    reader = own_admin.with_credential(token)
    reader.get("/v1/orgs")
    reader.post("/v1/orgs", {"slug": "mine", "name": "Mine"}, 403)
    reader.post("/v1/api-keys", body | {"entitlements": None}, 403)
    reader.post("/v1/sessions", {"profile": body["profile"], "org": org}, 403)
    # Nor is a token exchanged for one that lasts longer.
    assert refused(own_plane.url, exchange(token))[1] == "invalid_request"


def test_a_token_ends_with_its_key(plane: Plane, admin: Api, acme: Tenant) -> None:
    revoked, rotated, kept = (key_of(admin, acme) for _ in range(3))
    tokens = {key["id"]: token_of(plane.url, exchange(key["secret"]))["access_token"] for key in (revoked, rotated, kept)}
    admin.post(f"/v1/api-keys/{revoked['id']}/revoke", status=204)
    admin.post(f"/v1/api-keys/{rotated['id']}/rotate", {"overlap_seconds": 0})
    admin.post(f"/v1/api-keys/{kept['id']}/rotate", {"overlap_seconds": 3600})
    for key, status in ((revoked, 401), (rotated, 401), (kept, 200)):
        answer = admin.with_credential(tokens[key["id"]]).get("/v1/orgs/acme", status)
        assert status == 200 or answer["code"] == "revoked_session"
    session = admin.get(f"/v1/sessions/{said_by(tokens[revoked['id']])['sid']}")
    assert (session["cause"], session["made_from"], session["api_key"]) == ("api_key", "api_key", revoked["id"])


def test_a_token_never_outlives_its_key(plane: Plane, admin: Api, acme: Tenant) -> None:
    ends = int(time.time()) + 60
    key = key_of(admin, acme, expires_at=ends)
    issued = token_of(plane.url, exchange(key["secret"]))
    assert said_by(issued["access_token"])["exp"] == ends
    assert issued["expires_in"] <= 60
    plane.execute("UPDATE catalyst.api_keys SET expires_at = now() WHERE id = %s", key["id"])
    assert refused(plane.url, exchange(key["secret"])) == (400, "invalid_request", "The API key has expired.")
    assert admin.with_credential(issued["access_token"]).get("/v1/orgs/acme", 401)["code"] == "revoked_session"


def test_a_key_that_is_deleted_takes_its_sessions_with_it(plane: Plane, admin: Api, acme: Tenant) -> None:
    token = token_of(plane.url, exchange(key_of(admin, acme)["secret"]))["access_token"]
    admin.delete(f"/v1/orgs/acme/memberships/{acme.membership}")
    assert admin.with_credential(token).get("/v1/orgs/acme", 401)["code"] == "revoked_session"


def test_a_key_that_ends_while_it_is_exchanged_leaves_no_session_behind(plane: Plane, admin: Api, acme: Tenant) -> None:
    for _ in range(5):
        key = key_of(admin, acme)
        with ThreadPoolExecutor(6) as pool:
            asked = [pool.submit(ask, plane.url, exchange(key["secret"])) for _ in range(5)]
            revoked = pool.submit(admin.post, f"/v1/api-keys/{key['id']}/revoke", None, 204)
            answers = [one.result() for one in asked]
        revoked.result()
        assert {answer.status_code for answer in answers} <= {200, 400}
        for answer in answers:
            if answer.status_code == 200:
                caller = admin.with_credential(answer.json()["access_token"])
                assert caller.get("/v1/orgs/acme", 401)["code"] == "revoked_session"


@pytest.mark.parametrize("ended", ["profile", "org"])
def test_who_is_suspended_gets_nothing(plane: Plane, admin: Api, acme: Tenant, ended: str) -> None:
    key = key_of(admin, acme)
    path = f"/v1/profiles/{acme.profile}" if ended == "profile" else "/v1/orgs/acme"
    admin.patch(path, {"status": "suspended"})
    said = f"The {ended} is not active."
    assert refused(plane.url, exchange(key["secret"])) == (400, "invalid_request", said)
    asked = {"grant_type": "client_credentials"}
    assert refused(plane.url, asked, auth=basic(key["id"], key["secret"])) == (400, "unauthorized_client", said)


def test_a_persons_key_is_no_client(plane: Plane, admin: Api, acme: Tenant) -> None:
    ann = admin.post("/v1/profiles", {"kind": "user"})["id"]
    admin.post("/v1/orgs/acme/memberships", {"profile": ann})
    key = admin.post("/v1/api-keys", {"profile": ann, "org": "acme", "name": "laptop"})
    refusal = refused(plane.url, {"grant_type": "client_credentials"}, auth=basic(key["id"], key["secret"]))
    assert refusal[:2] == (400, "unauthorized_client")
    assert said_by(token_of(plane.url, exchange(key["secret"]))["access_token"])["sub"] == ann


def test_scopes_narrow_and_never_widen(plane: Plane, admin: Api, acme: Tenant) -> None:
    secret = key_of(admin, acme, scopes=["orders", "stock"])["secret"]
    assert token_of(plane.url, exchange(secret, scope="stock"))["scope"] == "stock"
    assert token_of(plane.url, exchange(secret, scope="stock orders stock"))["scope"] == "orders stock"
    for scope in ("admin", "orders admin", " orders", "orders  stock", "orders,stock", 'or"ders'):
        assert refused(plane.url, exchange(secret, scope=scope))[:2] == (400, "invalid_scope"), scope


def test_a_key_that_names_more_than_a_token_holds(plane: Plane, admin: Api, acme: Tenant) -> None:
    key = key_of(admin, acme, entitlements=[f"orders:{'x' * 180}:{n}" for n in range(100)])
    assert refused(plane.url, exchange(key["secret"]))[2].startswith("The key names more entitlements than a token has room for.")


CLIENT = {"grant_type": "client_credentials"}
SECRET = f"cak_{'a' * 32}_{'b' * 64}"


@pytest.mark.parametrize(
    ("parameters", "error"),
    [
        ({}, "invalid_request"),
        ({"grant_type": ""}, "invalid_request"),
        ({"grant_type": "password", "username": "ann", "password": "x"}, "unsupported_grant_type"),
        ({"grant_type": "authorization_code", "code": "x"}, "unsupported_grant_type"),
        ({"grant_type": "refresh_token", "refresh_token": "crt_x"}, "unsupported_grant_type"),
        ({"grant_type": EXCHANGE}, "invalid_request"),
        ({"grant_type": EXCHANGE, "subject_token": SECRET}, "invalid_request"),
        ({"grant_type": EXCHANGE, "subject_token": "", "subject_token_type": API_KEY}, "invalid_request"),
        ({"grant_type": EXCHANGE, "subject_token_type": API_KEY}, "invalid_request"),
        (exchange(SECRET), "invalid_request"),
        (exchange(SECRET + "x"), "invalid_request"),
        (exchange("nonsense"), "invalid_request"),
        (exchange(SECRET, "urn:ietf:params:oauth:token-type:id_token"), "invalid_request"),
        (exchange(SECRET, "urn:ietf:params:oauth:token-type:saml2"), "invalid_request"),
        (exchange(SECRET, "api-key"), "invalid_request"),
        (exchange(SECRET, requested_token_type="urn:ietf:params:oauth:token-type:refresh_token"), "invalid_request"),
        (exchange(SECRET, actor_token=SECRET, actor_token_type=API_KEY), "invalid_request"),
        (exchange(SECRET, actor_token=SECRET), "invalid_request"),
        (exchange(SECRET, actor_token_type=API_KEY), "invalid_request"),
        (exchange(SECRET, resource="https://orders.example.com"), "invalid_target"),
        (exchange(SECRET, audience="orders"), "invalid_target"),
        (exchange(SECRET, client_secret="x"), "invalid_request"),
        (exchange("\0"), "invalid_request"),
        (exchange("a\nb"), "invalid_request"),
        ({**CLIENT, "resource": "x", "client_id": "x", "client_secret": SECRET}, "invalid_target"),
        (CLIENT, "invalid_client"),
        ({**CLIENT, "client_id": "x"}, "invalid_client"),
        ({**CLIENT, "client_secret": SECRET}, "invalid_client"),
        ({**CLIENT, "client_id": "x", "client_secret": SECRET}, "invalid_client"),
        ({**CLIENT, "client_id": "cak_" + "a" * 32, "client_secret": SECRET}, "invalid_client"),
        ({**CLIENT, "client_id": "cak_" + "a" * 32, "client_secret": "x"}, "invalid_client"),
        ({**CLIENT, "client_assertion": "x", "client_assertion_type": "y"}, "invalid_client"),
        ([*CLIENT.items(), *CLIENT.items()], "invalid_request"),
        ([*exchange(SECRET).items(), ("subject_token", SECRET)], "invalid_request"),
        ([*exchange(SECRET).items(), ("unknown", "1"), ("unknown", "2")], "invalid_request"),
        ([*exchange(SECRET).items(), ("scope", ""), ("scope", "orders")], "invalid_request"),
        ([*exchange(SECRET).items(), ("audience", "catalyst"), ("audience", "orders")], "invalid_target"),
        ([("x", str(n)) for n in range(100)], "invalid_request"),
    ],
)
def test_what_is_asked_badly(plane: Plane, parameters: dict[str, str] | list[tuple[str, str]], error: str) -> None:
    status, found, description = refused(plane.url, parameters)
    assert (status, found) == (401 if error == "invalid_client" else 400, error), description


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("headers", "parameters", "status", "error"),
    [
        ({"authorization": "Bearer x"}, CLIENT, 401, "invalid_client"),
        ({"authorization": "Basic"}, CLIENT, 401, "invalid_client"),
        ({"authorization": "Basic !!!"}, CLIENT, 401, "invalid_client"),
        ({"authorization": f"Basic {encoded('no colon')}"}, CLIENT, 401, "invalid_client"),
        ({"authorization": f"Basic {encoded('ä:ö')}"}, CLIENT, 401, "invalid_client"),
        ({"authorization": f"Basic {encoded('%00:%00')}"}, CLIENT, 401, "invalid_client"),
        ({"authorization": f"Basic {encoded('%ff:%ff')}"}, CLIENT, 401, "invalid_client"),
        ({"authorization": f"Basic {encoded(f'x:{SECRET}')}"}, CLIENT, 401, "invalid_client"),
        ({"authorization": f"Basic {encoded(f'x:{SECRET}')}"}, {**CLIENT, "client_secret": SECRET}, 400, "invalid_request"),
        ({"authorization": f"Basic {encoded(f'x:{SECRET}')}"}, {**CLIENT, "client_id": "y"}, 400, "invalid_request"),
        ({"authorization": f"Basic {encoded(f'x:{SECRET}')}"}, exchange(SECRET), 400, "invalid_request"),
        ({"content-type": "application/json"}, CLIENT, 400, "invalid_request"),
        ({"content-type": "multipart/form-data; boundary=x"}, CLIENT, 400, "invalid_request"),
        ({"content-type": "text/plain"}, CLIENT, 400, "invalid_request"),
        ({"content-type": "application/x-www-form-urlencoded; charset=iso-8859-1"}, CLIENT, 400, "invalid_request"),
        ({"content-type": "application/x-www-form-urlencoded, application/json"}, CLIENT, 400, "invalid_request"),
        ({"content-type": "application/x-www-form-urlencoded; charset=UTF-8"}, CLIENT, 401, "invalid_client"),
    ],
)
def test_requests_of_a_wrong_form(
    plane: Plane, headers: dict[str, str], parameters: dict[str, str], status: int, error: str
) -> None:
    assert refused(plane.url, parameters, headers=headers)[:2] == (status, error)


@pytest.mark.parametrize(
    "body", [b'{"grant_type": "client_credentials"}', b"\xff=\xff", b"grant_type", b"a=%ff", b"&&&", b"=", b"a=b;c=d"]
)
def test_bodies_that_are_no_form(plane: Plane, body: bytes) -> None:
    headers = {"content-type": "application/x-www-form-urlencoded"}
    answer = http.post(f"{plane.url}/oauth/token", content=body, headers=headers)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request"), answer.text


def test_a_body_that_is_too_large_and_one_of_two_authorizations(plane: Plane) -> None:
    status, error, _ = refused(plane.url, {"grant_type": EXCHANGE, "subject_token": "x" * 70_000})
    assert (status, error) == (413, "invalid_request")
    twice = [("authorization", f"Basic {encoded(f'x:{SECRET}')}")] * 2
    headers = [("content-type", "application/x-www-form-urlencoded"), *twice]
    answer = http.post(f"{plane.url}/oauth/token", content="grant_type=client_credentials", headers=headers)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    answer = http.post(f"{plane.url}/oauth/token?grant_type=client_credentials", data={"client_id": "x"})
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    answer = http.get(f"{plane.url}/oauth/token", params=exchange(SECRET))
    assert answer.status_code == 405


def test_what_rfc_8693_lets_a_client_say(plane: Plane, admin: Api, acme: Tenant) -> None:
    secret = key_of(admin, acme)["secret"]
    pairs = [*exchange(secret, requested_token_type=JWT, client_id="anything", scope="").items()]
    pairs += [("audience", "catalyst"), ("audience", plane.settings.issuer), ("resource", ""), ("unknown", "x")]
    answer = ask(plane.url, pairs)
    assert answer.status_code == 200, answer.text
    wanted = "urn:ietf:params:oauth:token-type:access_token"
    assert token_of(plane.url, exchange(secret, requested_token_type=wanted))["issued_token_type"] == wanted


def test_no_cookie_and_no_other_credential_means_anything(plane: Plane, admin: Api, acme: Tenant) -> None:
    key = plane.administrator.api_key
    headers = {"x-api-key": key, "cookie": f"catalyst_session={key}; catalyst_login={key}"}
    assert refused(plane.url, CLIENT, headers=headers)[:2] == (401, "invalid_client")
    session = admin.post("/v1/sessions", {"profile": acme.profile, "org": "acme"})["token"]
    assert refused(plane.url, exchange(session))[1] == "invalid_request"
    assert refused(plane.url, {**CLIENT, "client_id": acme.profile, "client_secret": session})[1] == "invalid_client"


def test_the_metadata_is_what_is_there(plane: Plane, admin: Api, acme: Tenant) -> None:
    path = "/.well-known/oauth-authorization-server"
    said = http.get(plane.url + path).json()
    assert said["issuer"] == plane.settings.issuer
    assert said["token_endpoint"] == f"{plane.url}/oauth/token"
    assert said["response_types_supported"] == []
    assert http.get(said["jwks_uri"]).json()["keys"]
    for grant in said["grant_types_supported"]:
        assert refused(plane.url, {"grant_type": grant})[1] in ("invalid_client", "invalid_request")
    for elsewhere in ("/", "/other", "x"):
        assert http.get(plane.url + path + elsewhere).status_code == 404
    key = key_of(admin, acme)
    token = token_of(plane.url, CLIENT, auth=basic(key["id"], key["secret"]))["access_token"]
    keys = jwt.PyJWKClient(said["jwks_uri"])
    assert jwt.decode(token, keys.get_signing_key_from_jwt(token), ["EdDSA"], audience="catalyst", issuer=said["issuer"])


def test_behind_a_name_of_its_own_the_login_host_names_no_key_set() -> None:
    settings = settings_for(
        "postgresql:///x", CATALYST_LOGIN_LISTEN="127.0.0.1:8081", CATALYST_LOGIN_URL="https://auth.example.com/login"
    )
    said = metadata(settings)
    assert said["token_endpoint"] == "https://auth.example.com/oauth/token"
    assert "jwks_uri" not in said
