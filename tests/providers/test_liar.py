"""The provider of the tests, honest: what an ordinary client sees of it."""

import base64
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx2
import jwt
import pytest

from tests.providers.liar import Liar
from tests.providers.liar_world import GOLD, SILVER

BACK = "http://127.0.0.1:9/callback"
VERIFIER = "v" * 43
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).decode().rstrip("=")
ASKED = {
    "client_id": "catalyst",
    "redirect_uri": BACK,
    "response_type": "code",
    "scope": "openid email",
    "state": "a-state",
    "nonce": "a-nonce",
    "code_challenge": CHALLENGE,
    "code_challenge_method": "S256",
}


@pytest.fixture
def liar() -> Iterator[Liar]:
    with Liar(algorithm="EdDSA") as made:
        yield made


@pytest.fixture
def browser(liar: Liar) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=liar.issuer) as made:
        yield made


def sent_back(browser: httpx2.Client, **asked: str) -> dict[str, str]:
    """What the client is told at its address."""
    answer = browser.get("/authorize?" + urlencode(ASKED | asked))
    assert answer.status_code == 303, answer.text
    return {name: values[0] for name, values in parse_qs(urlsplit(answer.headers["location"]).query).items()}


def redeemed(browser: httpx2.Client, code: str, **more: str) -> httpx2.Response:
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": BACK, "code_verifier": VERIFIER}
    return browser.post("/token", data=form | more, auth=("catalyst", "catalyst-secret"))


def claims_of(browser: httpx2.Client, liar: Liar, **asked: str) -> dict[str, object]:
    token = redeemed(browser, sent_back(browser, **asked)["code"]).json()["id_token"]
    claims: dict[str, object] = jwt.decode(token, liar.keys[0].private.public_key(), ["EdDSA"], audience="catalyst")
    return claims


def test_a_login_without_a_form(liar: Liar, browser: httpx2.Client) -> None:
    said = sent_back(browser, login_hint="alice@example.com")
    assert (said["state"], said["iss"]) == ("a-state", liar.issuer)
    tokens = redeemed(browser, said["code"]).json()
    claims = jwt.decode(tokens["id_token"], liar.keys[0].private.public_key(), ["EdDSA"], audience="catalyst")
    assert (claims["iss"], claims["sub"], claims["nonce"], claims["acr"]) == (liar.issuer, "alice", "a-nonce", SILVER)
    who = browser.get("/userinfo", headers={"authorization": f"Bearer {tokens['access_token']}"}).json()
    assert (who["sub"], who["email"]) == ("alice", "alice@example.com")


def test_a_code_is_good_once_for_its_verifier(browser: httpx2.Client) -> None:
    code = sent_back(browser, login_hint="alice")["code"]
    assert redeemed(browser, code).status_code == 200
    assert redeemed(browser, code).json()["error"] == "invalid_grant"
    other = sent_back(browser)["code"]
    assert redeemed(browser, other, code_verifier="w" * 43).json()["error"] == "invalid_grant"


def test_prompt_none_asks_nobody(browser: httpx2.Client) -> None:
    assert sent_back(browser, prompt="none", login_hint="alice")["error"] == "login_required"
    sent_back(browser, login_hint="alice")
    assert "code" in sent_back(browser, prompt="none")


def test_step_up_and_age_are_honoured(liar: Liar, browser: httpx2.Client) -> None:
    first = claims_of(browser, liar, login_hint="alice")
    gold = claims_of(browser, liar, login_hint="alice", acr_values=GOLD)
    assert (gold["acr"], gold["sid"]) == (GOLD, first["sid"])
    login = next(iter(liar.logins.values()))
    login.auth_time -= 1000
    assert claims_of(browser, liar)["auth_time"] == login.auth_time
    assert int(str(claims_of(browser, liar, login_hint="alice", max_age="60")["auth_time"])) > login.auth_time
    assert sent_back(browser, login_hint="carol", prompt="login", acr_values=GOLD)["error"] == "unmet_authentication_requirements"


def test_a_form_where_nobody_is_named(liar: Liar, browser: httpx2.Client) -> None:
    asked = "/authorize?" + urlencode(ASKED)
    assert "<form" in browser.get(asked).text
    assert "code=" in browser.post(asked, data={"person": "bob"}).headers["location"]
    assert [login.subject for login in liar.logins.values()] == ["bob"]


def test_as_a_process_with_its_switches() -> None:
    command = [sys.executable, "-m", "tests.providers.liar", "--algorithm", "EdDSA"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            issuer = json.loads(process.stdout.readline())["issuer"]
            with httpx2.Client(base_url=issuer, transport=httpx2.HTTPTransport(retries=5)) as client:
                assert client.post("/control", json={"lies": ["error_jwks"], "auto": "bob"}).json()["lies"] == ["error_jwks"]
                assert client.get("/jwks").status_code == 500
                assert client.post("/control", json={"lies": ["no_such_lie"]}).status_code == 400
                assert client.post("/control", json={"lies": []}).json()["auto"] == "bob"
                assert len(client.get("/jwks").json()["keys"]) == 1
        finally:
            process.terminate()
