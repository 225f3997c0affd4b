"""One counter for all ways in, seen from outside: an attacker who changes ways, credentials and processes is stopped by it."""

import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import jwt

from control_plane.attempts import LIMITS, WINDOW
from tests.acceptance.plane import Api, Plane, bootstrapped
from tests.acceptance.processes import Program, control_plane, sidecar
from tests.acceptance.tokens import exchange, http

HOST = "shop.example.com"
SECRET = secrets.token_bytes(32)


def forged_key(key_id: str = "") -> str:
    return f"cak_{key_id or uuid4().hex}_{secrets.token_hex(32)}"


def forged_token() -> str:
    claims = {"sub": str(uuid4()), "org": str(uuid4()), "sid": str(uuid4()), "iat": 1, "exp": 4_000_000_000}
    return jwt.encode(claims, SECRET, "HS256", {"typ": "session+jwt", "kid": "x"})


def get(url: str, credential: str, **headers: str) -> httpx2.Response:
    return http.get(f"{url}/v1/orgs", headers={"authorization": f"Bearer {credential}", **headers})


@dataclass
class Attacker:
    """Tries every way in, at two control planes. Each guess is a status."""

    planes: tuple[Program, Program]
    gate: str
    address: str

    def api(self) -> int:
        return get(self.planes[0].url, forged_key(), **{"x-forwarded-for": self.address}).status_code

    def session(self) -> int:
        return get(self.planes[1].url, forged_token(), **{"x-forwarded-for": self.address}).status_code

    def exchange(self) -> int:
        return self._token(0, exchange(forged_key()))

    def client(self) -> int:
        secret = forged_key()
        client = {"client_id": secret[:36], "client_secret": secret}
        return self._token(1, {"grant_type": "client_credentials", **client})

    def refresh(self) -> int:
        token = f"crt_{uuid4().hex}_{secrets.token_hex(32)}"
        return self._at_the_host("/.catalyst/refresh?return_to=%2F", f"__Secure-catalyst_refresh={token}")

    def code(self) -> int:
        nonce = secrets.token_urlsafe(32)
        path = f"/.catalyst/callback?code={secrets.token_urlsafe(32)}&return_to=%2F"
        return self._at_the_host(path, f"__Host-catalyst_binding={nonce}")

    def guesses(self) -> tuple[Callable[[], int], ...]:
        return self.api, self.session, self.exchange, self.client, self.refresh, self.code

    def _token(self, plane: int, parameters: dict[str, str]) -> int:
        headers = {"x-forwarded-for": self.address}
        return http.post(f"{self.planes[plane].url}/oauth/token", data=parameters, headers=headers).status_code

    def _at_the_host(self, uri: str, cookie: str) -> int:
        """By the sidecar, which relays to the second control plane and says whose request it is."""
        question = {"method": "GET", "proto": "https", "host": HOST, "uri": uri, "for": self.address}
        headers = {f"x-forwarded-{name}": value for name, value in question.items()}
        return http.get(f"{self.gate}/forward-auth/traefik", headers={**headers, "cookie": cookie}).status_code


def test_one_counter_for_keys_tokens_clients_codes_and_refresh_tokens(database: Any, tmp_path: Path) -> None:
    administrator = bootstrapped(database.url("catalyst_control"))
    url, trusted = database.url("catalyst_control"), {"CATALYST_LOGIN_TRUSTED_PROXIES": "127.0.0.0/8"}
    with (
        control_plane(url, tmp_path / "one", **trusted) as one,
        control_plane(url, tmp_path / "two", **trusted) as two,
        sidecar(
            database.url("catalyst_sidecar"),
            tmp_path / "gate",
            CATALYST_LOGIN_URL=f"{two.url}/login",
            CATALYST_ISSUER="http://127.0.0.1:8080",
        ) as gate,
    ):
        api = Api(one.url, administrator.api_key)
        api.post("/v1/applications", {"slug": "shop", "name": "Shop", "hosts": [HOST]})
        await_sidecar(api)
        attacker, neighbour = (Attacker((one, two), gate.url, address) for address in ("192.0.2.66", "192.0.2.67"))
        guesses = attacker.guesses()
        answers = [guess() for _ in range(LIMITS["address"] // len(guesses) + 1) for guess in guesses]
        assert 429 not in answers[: LIMITS["address"]], answers
        # Whichever way they come now, and with whatever: the right key too. A claim of theirs changes nothing.
        assert [guess() for guess in guesses] == [429] * len(guesses)
        for claim in ("192.0.2.66", "198.51.100.1, 192.0.2.66"):
            refusal = get(two.url, administrator.api_key, **{"x-forwarded-for": claim})
            assert (refusal.status_code, refusal.json()["code"]) == (429, "too_many_attempts")
            assert 0 < int(refusal.headers["retry-after"]) <= WINDOW
        assert get(two.url, administrator.api_key, **{"x-forwarded-for": "198.51.100.1"}).status_code == 200
        assert 429 not in [guess() for guess in neighbour.guesses()]
        events = api.get("/v1/audit-events", type="access.throttled")["items"]
        api.close()
        metrics = [http.get(f"{program.ops}/metrics").text for program in (one, two)]
    assert [(event["resource"], event["address"], event["org"]) for event in events] == [("address", "192.0.2.66", None)]
    written = [*metrics, *((tmp_path / name).read_text() for name in ("one", "two"))]
    assert not any("192.0.2.66" in text for text in written)
    assert 'throttled_attempts_total{limit="address"}' in "".join(metrics)
    counted = re.findall(r'^failed_attempts_total{counted="database",way="(\w+)"} (\d+)', "\n".join(metrics), re.MULTILINE)
    ways = {way: sum(int(number) for other, number in counted if other == way) for way, _ in counted}
    assert ways.keys() == {"api", "token", "refresh", "handoff"}
    assert LIMITS["address"] < sum(ways.values()) <= LIMITS["address"] + 2 + len(guesses)


def await_sidecar(api: Api) -> None:
    """Until the control plane knows the key that the sidecar signs its relays with."""
    deadline = time.monotonic() + 30
    while not api.get("/v1/sidecars")["items"]:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_who_guesses_for_a_key_is_refused_for_that_key_alone(own_plane: Plane, own_admin: Api) -> None:
    key_id = own_plane.administrator.api_key[4:36]
    answers = [get(own_plane.url, forged_key(key_id)).status_code for _ in range(LIMITS["account_from_address"] + 2)]
    assert answers == [401] * (LIMITS["account_from_address"] + 1) + [429]
    # Even the right one: from there, and not from elsewhere.
    assert get(own_plane.url, own_plane.administrator.api_key).status_code == 429
    assert get(own_plane.url, forged_key()).status_code == 401


def test_what_was_good_once_and_what_is_missing_are_no_guesses(own_plane: Plane, own_admin: Api) -> None:
    org = own_admin.get("/v1/orgs")["items"][0]["slug"]
    key = own_admin.post("/v1/api-keys", {"profile": str(own_plane.administrator.profile), "org": org, "name": "old"})
    own_plane.execute("UPDATE catalyst.api_keys SET expires_at = now() - interval '1 hour' WHERE id = %s", key["id"])
    for _ in range(LIMITS["account_from_address"] + 2):
        assert get(own_plane.url, key["secret"]).json()["code"] == "expired_api_key"
    for _ in range(LIMITS["address"] + 2):
        assert http.get(f"{own_plane.url}/v1/orgs").status_code == 401
    assert get(own_plane.url, own_plane.administrator.api_key).status_code == 200
