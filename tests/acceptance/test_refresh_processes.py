"""Refreshes as browsers ask for them: through real sidecars, answered by three control planes, one of which is killed on the way."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest

from control_plane.db.embedded import EmbeddedPostgres
from control_plane.sessions.service import Begun
from tests.acceptance.logins import Door, later
from tests.acceptance.plane import Api, bootstrapped, settings_for
from tests.acceptance.processes import Program, control_plane, sidecar
from tests.acceptance.test_end_to_end import POLICY
from tests.conftest import Database, make_database

HOST = "orders.example.com"
ASKED = {
    "x-forwarded-method": "GET",
    "x-forwarded-proto": "https",
    "x-forwarded-host": HOST,
    "x-forwarded-for": "192.0.2.7",
    "sec-fetch-mode": "cors",
}
SESSION, REFRESH = "__Host-catalyst_session", "__Secure-catalyst_refresh"


@dataclass
class Scene:
    """Three control planes, before each a sidecar that relays to it, and Ann, who may read orders."""

    admin: Api
    door: Door
    planes: list[Program]
    gates: list[Program]
    database: Database
    ann: str
    org: str

    def login(self) -> tuple[Begun, str]:
        """A login whose access token has ended, and the refresh token of the application's host."""
        began = self.door.begin(self.ann, self.org)
        token = self.door.open_chain(began.session, HOST).refresh
        later(self.door, 310)
        return began, token

    def refreshed(self, number: int, token: str) -> dict[str, str]:
        """The cookies that a browser gets which asks by way of one of the sidecars."""
        return cookies(httpx2.get(self.gates[number].url + "/forward-auth/traefik", headers=asking(token), timeout=30))

    def check(self, access: str) -> str:
        """What each sidecar makes of an access token, at the newest revision: "allow" or the reason why not."""
        headers = ASKED | {"x-forwarded-uri": "/orders/1", "cookie": f"{SESSION}={access}"}
        headers |= {"x-catalyst-min-revision": str(self.admin.revision())}
        answers = [httpx2.get(f"{gate.url}/forward-auth/traefik", headers=headers, timeout=30) for gate in self.gates]
        (told,) = {"allow" if one.status_code == 200 else one.headers["x-forward-auth-error"] for one in answers}
        return told

    def row(self, query: str, *arguments: object) -> Any:
        with psycopg.connect(self.database.admin_url) as connection:
            return connection.execute(query, arguments).fetchone()


def asking(token: str) -> dict[str, str]:
    return ASKED | {"x-forwarded-uri": "/.catalyst/refresh?return_to=%2Forders%2F1", "cookie": f"{REFRESH}={token}"}


def cookies(answer: httpx2.Response) -> dict[str, str]:
    """What was set by an answer that lets the browser repeat its request."""
    assert (answer.status_code, answer.headers.get("location", "")) == (307, "/orders/1"), answer.text
    jar: SimpleCookie = SimpleCookie()
    for line in answer.headers.get_list("set-cookie"):
        jar.load(line)
    return {name: one.value for name, one in jar.items()}


@pytest.fixture(scope="module")
def scene(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    logs: Path = tmp_path_factory.mktemp("logs")
    for database in make_database(postgres, "catalyst"):
        administrator = bootstrapped(database.url())
        with contextlib.ExitStack() as running, Door(settings_for(database.url())) as door:
            planes, gates = pairs(running, database, logs)
            admin = Api(planes[2].url, administrator.api_key)
            org = admin.post("/v1/orgs", {"slug": "acme", "name": "Acme"})["id"]
            ann = admin.post("/v1/profiles", {"kind": "user"})["id"]
            admin.post("/v1/orgs/acme/memberships", {"profile": ann})
            admin.post("/v1/grants", {"org": "acme", "subject": {"kind": "org", "id": "acme"}, "entitlement": "orders:read"})
            admin.post("/v1/applications", {"slug": "orders", "name": "Orders", "hosts": [HOST]})
            admin.put_policy("orders", POLICY)
            admin.post("/v1/applications/orders/policy/publish", {})
            yield Scene(admin, door, planes, gates, database, ann, org)
            admin.close()


def pairs(running: contextlib.ExitStack, database: Database, logs: Path) -> tuple[list[Program], list[Program]]:
    """Three control planes, and before each a sidecar that relays to it. Those of a kind start at once."""
    login = {"CATALYST_LOGIN_URL": "https://auth.example.com/login"}

    def plane(number: int) -> Program:
        return running.enter_context(control_plane(database.url(), logs / f"plane {number}", **login))

    def gate(plane: Program) -> Program:
        relay = login | {"CATALYST_LOGIN_RELAY_URL": plane.url}
        return running.enter_context(
            sidecar(database.url("catalyst_sidecar"), logs / plane.output.name.replace("plane", "gate"), **relay)
        )

    with ThreadPoolExecutor(3) as at_once:
        planes = list(at_once.map(plane, range(3)))
        return planes, list(at_once.map(gate, planes))


def test_fifty_at_once_by_three_control_planes_rotate_once_and_log_nobody_out(scene: Scene) -> None:
    began, token = scene.login()

    async def ask() -> list[dict[str, str]]:
        async with httpx2.AsyncClient(timeout=60) as client:
            urls = [scene.gates[number % 3].url + "/forward-auth/traefik" for number in range(50)]
            return [cookies(one) for one in await asyncio.gather(*(client.get(url, headers=asking(token)) for url in urls))]

    given = asyncio.run(ask())
    assert len(given) == 50
    (successor,) = {one[REFRESH] for one in given}
    assert successor != token
    chain = "SELECT generation FROM catalyst.refresh_chains WHERE session_id = %s AND host = %s"
    assert scene.row(chain, began.session, HOST) == (1,)
    assert {scene.check(access) for access in {one[SESSION] for one in given}} == {"allow"}
    assert scene.admin.get(f"/v1/sessions/{began.session}")["revoked_at"] is None
    later(scene.door, 310)
    assert scene.check(scene.refreshed(1, successor)[SESSION]) == "allow"


def test_a_stolen_token_that_comes_back_ends_the_session_at_every_sidecar(scene: Scene) -> None:
    began, stolen = scene.login()
    mine = scene.refreshed(0, stolen)
    assert scene.check(mine[SESSION]) == "allow"
    later(scene.door, 30)
    thief = httpx2.get(f"{scene.gates[1].url}/forward-auth/traefik", headers=asking(stolen), timeout=30)
    assert (thief.status_code, thief.json()) == (401, {"error": "login_required"})
    assert scene.check(mine[SESSION]) == "revoked_session"
    assert scene.admin.get(f"/v1/sessions/{began.session}")["cause"] == "reused"
    again = httpx2.get(f"{scene.gates[2].url}/forward-auth/traefik", headers=asking(mine[REFRESH]), timeout=30)
    assert again.status_code == 401


@pytest.mark.parametrize(("number", "table"), [(0, "sessions"), (1, "refresh_chains")])
def test_a_control_plane_that_is_killed_in_the_middle_of_a_refresh_costs_nobody_the_session(
    scene: Scene, number: int, table: str
) -> None:
    """Held up before it has read the session, or before it writes the new token; then killed. The browser asks again."""
    _, token = scene.login()
    with psycopg.connect(scene.database.admin_url) as holder:
        holder.execute(f"SELECT FROM catalyst.{table} FOR UPDATE")
        lost = threading.Thread(target=ask_and_be_let_down, args=(scene.gates[number], token))
        lost.start()
        deadline = time.monotonic() + 30
        while scene.row("SELECT count(*) FROM pg_locks WHERE NOT granted") == (0,):
            assert time.monotonic() < deadline, "nobody waits"
            time.sleep(0.02)
        scene.planes[number].process.kill()
        scene.planes[number].process.wait(20)
        holder.rollback()
    lost.join(30)
    given = scene.refreshed(2, token)
    assert given[REFRESH] != token
    assert scene.check(given[SESSION]) == "allow"
    later(scene.door, 310)
    assert scene.check(scene.refreshed(2, given[REFRESH])[SESSION]) == "allow"


def ask_and_be_let_down(gate: Program, token: str) -> None:
    answer = httpx2.get(f"{gate.url}/forward-auth/traefik", headers=asking(token), timeout=30)
    assert answer.status_code == 503, answer.text
