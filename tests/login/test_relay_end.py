"""The relay's end: what nobody vouches for is nothing, and what a sidecar says is held to what it may say."""

import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx2
import jwt
import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from psycopg.types.json import Jsonb

from control_plane.login import relay as relay_end
from tests.login.world import SHOP, World, log_lines

KEY = Ed25519PrivateKey.from_private_bytes(b"r" * 32)
OTHER = Ed25519PrivateKey.from_private_bytes(b"o" * 32)
SIDECAR, LATE = str(uuid4()), str(uuid4())
BODY = {"query": f"return_to=http%3A%2F%2F{SHOP}%2F", "cookies": {}, "headers": {"sec-fetch-mode": "navigate"}}


def jwk(key: Ed25519PrivateKey, kid: str) -> dict[str, str]:
    x = urlsafe_b64encode(key.public_key().public_bytes_raw()).rstrip(b"=").decode()
    return {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": kid, "alg": "EdDSA", "use": "sig"}


@pytest.fixture(autouse=True)
def _sidecars(world: World) -> Iterator[None]:
    """One that is alive, and one that has not been heard of for three minutes."""
    database = world.plane.settings.database_url.replace("catalyst_control@", "postgres@")
    with psycopg.connect(database) as connection:
        for sidecar, kid, minutes in ((SIDECAR, "live", 0), (LATE, "late", 3)):
            connection.execute(
                "INSERT INTO catalyst.sidecars (id, version, revision, lag_seconds, assertion_jwk, seen_at)"
                " VALUES (%s, '1', 0, 0, %s, now() - make_interval(mins => %s))",
                [sidecar, Jsonb(jwk(KEY, kid)), minutes],
            )
    yield
    with psycopg.connect(database) as connection:
        connection.execute("DELETE FROM catalyst.sidecars WHERE id = ANY (%s)", [[SIDECAR, LATE]])


def claims(**changed: Any) -> dict[str, Any]:
    now = int(time.time())
    said = {
        "iss": "catalyst-sidecar", "sub": SIDECAR, "aud": "catalyst-login", "iat": now, "exp": now + 30, "jti": uuid4().hex,
        "method": "GET", "scheme": "http", "host": SHOP, "port": "", "address": "203.0.113.9", "cookie": "catalyst_session", "prefix": False,
    }  # fmt: skip
    said |= changed
    return {name: value for name, value in said.items() if value is not None}


def signed(said: dict[str, Any], key: Any = KEY, algorithm: str = "EdDSA", **head: str) -> str:
    return jwt.encode(said, key, algorithm, {"typ": "relay+jwt", "kid": "live"} | head)


def ask(world: World, token: str, action: str = "start", body: Any = None) -> httpx2.Response:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    return httpx2.post(f"{world.plane.url}/relay/{action}", json=BODY if body is None else body, headers=headers, timeout=20)


def test_what_a_live_sidecar_signs_is_done(world: World) -> None:
    answer = ask(world, signed(claims()))
    assert (answer.status_code, answer.json()["status"]) == (200, 303)
    assert answer.json()["location"].startswith(f"{world.plane.url}/login?")


def forged() -> dict[str, str]:
    now = int(time.time())
    secret = KEY.public_key().public_bytes_raw() + b"x" * 32
    return {
        "nothing": "",
        "no token": "x.y.z",
        "of another key": signed(claims(), OTHER),
        "of no key": jwt.encode(claims(), None, "none", {"typ": "relay+jwt", "kid": "live"}),
        "by a shared secret": signed(claims(), secret, "HS256"),
        "of a key that nobody has": signed(claims(), kid="nobody"),
        "of a key that is not alive": signed(claims(sub=LATE), kid="late"),
        "of another sidecar": signed(claims(sub=str(uuid4()))),
        "of another type": signed(claims(), typ="decision+jwt"),
        "of no type": signed(claims(), typ="JWT"),
        "expired": signed(claims(iat=now - 120, exp=now - 90)),
        "of the future": signed(claims(iat=now + 120, exp=now + 150)),
        "too long": signed(claims(exp=now + 3600)),
        "for somebody else": signed(claims(aud="catalyst")),
        "by somebody else": signed(claims(iss="catalyst")),
        "of a host that is none": signed(claims(host="SHOP.example.test")),
        "of a host with a path": signed(claims(host=f"{SHOP}/x")),
        "of no scheme": signed(claims(scheme="javascript")),
        "of a prefix that does not fit": signed(claims(prefix=True)),
        "of a prefix in words": signed(claims(prefix="false")),
        "of a cookie with more in it": signed(claims(cookie="a; Domain=x")),
        "of a port that is none": signed(claims(port="80/")),
        "of no address": signed(claims(address="somewhere")),
        **{f"without {name}": signed(claims(**{name: None})) for name in claims()},
    }


@pytest.mark.parametrize("what", forged())
def test_what_nobody_vouches_for_is_refused(world: World, what: str) -> None:
    answer = ask(world, forged()[what])
    assert answer.status_code == 401
    assert answer.json()["code"] == "invalid_token"


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("nothing", "unsigned"),
        ("no token", "unsigned"),
        ("of a key that nobody has", "unknown_key"),
        ("of a key that is not alive", "unknown_key"),
        ("expired", "clock"),
        ("of the future", "clock"),
        ("of another key", "token"),
        ("of no address", "malformed"),
    ],
)
def test_why_is_in_the_log_and_the_metric_and_not_in_the_answer(world: World, what: str, reason: str) -> None:
    def counted() -> float:
        sample = world.plane.metrics.registry.get_sample_value("relay_requests_refused_total", {"reason": reason})
        return sample or 0.0

    before = counted()
    with log_lines() as lines:
        answer = ask(world, forged()[what])
    assert counted() == before + 1
    (line,) = (line for line in lines if line["event"] == "no sidecar vouches for this")
    assert (line["action"], line["reason"], line["log_level"]) == ("start", reason, "warning")
    assert reason not in answer.json()["detail"]


@pytest.mark.parametrize("name", ["CATALYST_LOGIN_URL", "CATALYST_ISSUER"])
def test_a_sidecar_with_other_settings_is_told_of_once(world: World, name: str) -> None:
    ours = {"CATALYST_LOGIN_URL": world.plane.settings.login_url, "CATALYST_ISSUER": world.plane.settings.issuer}
    other = ours | {name: "https://old.example.com/login"}
    relay_end.tell_once.cache_clear()
    with log_lines() as lines:
        for said in (ours, other, other, None, "x", {name: 1}):
            assert ask(world, signed(claims(settings=said))).status_code == 200
    (line,) = (line for line in lines if "a sidecar has another" in line["event"])
    assert (line["sidecar"], line["control_plane"]) == ("https://old.example.com/login", ours[name])
    assert name in line["event"]


@pytest.mark.parametrize(
    "body",
    [
        [],
        "x",
        {},
        {"query": 1, "cookies": {}, "headers": {}},
        {"query": "", "cookies": {"a": 1}, "headers": {}},
        BODY | {"cookies": []},
    ],
)
def test_a_body_that_no_sidecar_sends_is_refused(world: World, body: Any) -> None:
    expected = 400 if body == BODY | {"cookies": []} else 401
    answer = ask(world, signed(claims()), body=body)
    assert answer.status_code == 401 or (expected == 400 and answer.json()["status"] == 303)


def test_an_action_that_is_none_is_none(world: World) -> None:
    assert ask(world, signed(claims()), "everything").status_code == 404
    assert ask(world, "", "everything").status_code == 401


def test_a_host_that_is_no_applications_gets_nothing(world: World) -> None:
    body = BODY | {"query": "return_to=http%3A%2F%2Fgone.example.test%2F"}
    answer = ask(world, signed(claims(host="gone.example.test")), body=body).json()
    assert answer["status"] == 400
    assert "cookies" not in answer


def test_the_names_of_cookies_are_the_sidecars(world: World) -> None:
    https = claims(scheme="https", prefix=True, cookie="my_session")
    answer = ask(world, signed(https), body=BODY | {"query": f"return_to=https%3A%2F%2F{SHOP}%2F"}).json()
    (binding,) = answer["cookies"]
    assert binding.startswith("__Host-catalyst_binding=")
    assert binding.endswith("; Path=/; Max-Age=3600; HttpOnly; SameSite=Lax; Secure")
    gone = ask(
        world, signed(https), "refresh", {"query": "return_to=%2F", "cookies": {"__Secure-catalyst_refresh": "x"}, "headers": {}}
    ).json()
    assert [cookie.partition("=")[0] for cookie in gone["cookies"]] == ["__Host-my_session", "__Secure-catalyst_refresh"]
    assert all("Max-Age=0" in cookie for cookie in gone["cookies"])
