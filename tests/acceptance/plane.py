"""A control plane in a thread: the real application behind a real server, on a database of the test's own."""

import asyncio
import base64
import socket
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx2
import psycopg
import uvicorn

from control_plane.app import create_app
from control_plane.bootstrap import Administrator, bootstrap
from control_plane.changes import reading
from control_plane.db.pool import create_pool
from control_plane.last_use import LastUse
from control_plane.login.app import beside, create_login
from control_plane.ops import create_ops
from control_plane.permissions import SYSTEM
from control_plane.server import prepare
from control_plane.settings import Settings
from control_plane.signing_keys import service as signing_keys
from control_plane.signing_keys.service import Signer
from control_plane.telemetry import Metrics

DOCUMENTED = (Path(__file__).resolve().parents[2] / "docs" / "reference" / "problems.md").read_text()
"""The page of every code that a refusal may have."""

READS_BY_POST = ("/validate", "/explain", "/diff", "/policy/replay", "/checkpoints")
"""They may make something, and change nothing."""
SECRET_KEY = base64.b64encode(bytes(range(32))).decode()


def settings_for(database_url: str, **more: str) -> Settings:
    return Settings.from_environ({"CATALYST_DATABASE_URL": database_url, "CATALYST_SECRET_KEY": SECRET_KEY, **more})


def bootstrapped(database_url: str) -> Administrator:
    """The first administrator, made as `catalyst bootstrap` makes it."""

    async def make() -> Administrator:
        pool = await create_pool(database_url, "catalyst_control", size=1)
        try:
            return await bootstrap(pool, settings_for(database_url))
        finally:
            await pool.close()

    return asyncio.run(make())


class Plane:
    """`with Plane(url) as plane:` serves on `plane.url`; `plane.administrator` is bootstrapped."""

    def __init__(self, database_url: str) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        # As uvloop does where it accepts: without it every answer on a kept connection waits 40 ms for the client's ACK.
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.url = "http://{}:{}".format(*self.socket.getsockname())
        here = {"CATALYST_LOGIN_URL": f"{self.url}/login", "CATALYST_OUTBOUND_NETWORKS": "127.0.0.0/8"}
        here["CATALYST_WEBHOOK_NETWORKS"] = "127.0.0.0/8"
        self.settings = settings_for(database_url, **here)
        self.app: Any = None
        self.login: Any = None
        self.ops: Any = None
        self.metrics = Metrics()
        self.last_use: LastUse
        self.administrator: Administrator
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self._server: uvicorn.Server
        self._failure: BaseException | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(20), "the control plane does not start"
        if self._failure is not None:
            raise self._failure
        while not self._server.started:
            time.sleep(0.002)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(20)

    def execute(self, statement: str, *arguments: object) -> None:
        """SQL by the owner of everything, as somebody with psql would."""
        with psycopg.connect(self.settings.database_url.replace("catalyst_control@", "postgres@")) as connection:
            connection.execute(statement, arguments)

    def fan_out(self) -> None:
        """What a worker does with new events: each is queued for the webhooks that subscribed to it."""
        self.execute("DO $$ BEGIN WHILE catalyst.fan_out(1000) > 0 LOOP END LOOP; END $$")

    def streams_running(self) -> int:
        """Exports and verifications that are under way."""
        running: int = self.app.state.streams._running
        return running

    def active_key(self) -> Signer:
        """The key that signs session tokens, its private half included."""
        return asyncio.run(self._active_key())

    async def _active_key(self) -> Signer:
        pool = await create_pool(self.settings.database_url, "catalyst_control", size=1)
        try:
            async with reading(pool, SYSTEM) as work:
                return await signing_keys.signer(work, self.settings.secret_key)
        finally:
            await pool.close()

    async def _serve(self) -> None:
        try:
            pool = await create_pool(self.settings.database_url, "catalyst_control", size=5)
            self.administrator = await bootstrap(pool, self.settings)
            await prepare(pool, self.settings)
            app = self.app = create_app(self.settings, pool, self.metrics)
            login = self.login = create_login(self.settings, pool, self.metrics, app.state.attempts)
            self.last_use = app.state.last_use
            self.ops = create_ops(pool, self.metrics)
            self._server = uvicorn.Server(
                uvicorn.Config(beside(app, login), http="h11", ws="none", lifespan="off", log_config=None, access_log=False)
            )
        except BaseException as failure:
            self._failure = failure
            raise
        finally:
            self._ready.set()
        try:
            await self._server.serve([self.socket])
        finally:
            await asyncio.gather(*(one.aclose() for one in (app.state.outbound, app.state.sender, login.state.outbound)))
            pool.terminate()


@dataclass
class Api:
    """Calls to a control plane with one credential. Each method gives the answer, whose status is checked."""

    url: str
    credential: str | None
    client: httpx2.Client = field(init=False)
    others: "list[Api]" = field(default_factory=list)

    def __post_init__(self) -> None:
        headers = {} if self.credential is None else {"authorization": f"Bearer {self.credential}"}
        self.client = httpx2.Client(base_url=self.url, headers=headers, timeout=10)

    def close(self) -> None:
        for other in self.others:
            other.close()
        self.client.close()

    def with_credential(self, credential: str | None) -> "Api":
        """Calls with another credential; closed with this one."""
        self.others.append(Api(self.url, credential))
        return self.others[-1]

    def call(self, method: str, path: str, status: int, **more: Any) -> Any:
        """The body of the answer (None where it has none)."""
        answer = self.client.request(method, path, **more)
        assert answer.status_code == status, f"{method} {path}: {answer.status_code} {answer.text}"
        if status >= 400:
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["status"] == status
            assert f"`{answer.json()['code']}`" in DOCUMENTED, "docs/refusals.py does not find where this code is given"
        elif method != "GET" and not path.endswith(READS_BY_POST):
            assert int(answer.headers["x-catalyst-revision"]) > 0
        return answer.json() if answer.content else None

    def get(self, path: str, status: int = 200, /, **params: Any) -> Any:
        return self.call("GET", path, status, params=params)

    def post(self, path: str, body: Any = None, status: int = 201) -> Any:
        return self.call("POST", path, status, json=body)

    def patch(self, path: str, body: Any, status: int = 200) -> Any:
        return self.call("PATCH", path, status, json=body)

    def delete(self, path: str, status: int = 204) -> None:
        self.call("DELETE", path, status)

    def put_policy(self, application: str, text: str, status: int = 200, **headers: str) -> Any:
        content = {"content-type": "application/yaml", **{name.replace("_", "-"): value for name, value in headers.items()}}
        return self.call("PUT", f"/v1/applications/{application}/policy/draft", status, content=text, headers=content)

    def last_event(self) -> Any:
        """The newest audit event within reach."""
        return self.get("/v1/audit-events", limit=1)["items"][0]

    def revision(self) -> int:
        revision: int = self.get("/v1/revision")["revision"]
        return revision


@dataclass
class Tenant:
    """An org with one administrator, who holds the permissions given."""

    id: str
    slug: str
    profile: str
    membership: str
    api: Api


def make_tenant(admin: Api, slug: str, permissions: list[str]) -> Tenant:
    """An org and an API caller in it."""
    org = admin.post("/v1/orgs", {"slug": slug, "name": slug.title()})
    profile = admin.post("/v1/profiles", {"kind": "service", "display_name": f"{slug} administrator"})["id"]
    membership = admin.post(f"/v1/orgs/{slug}/memberships", {"profile": profile})["id"]
    for permission in permissions:
        subject = {"kind": "membership", "id": membership}
        admin.post("/v1/grants", {"org": slug, "subject": subject, "entitlement": permission})
    key = admin.post("/v1/api-keys", {"profile": profile, "org": slug, "name": "test"})
    return Tenant(org["id"], slug, profile, membership, admin.with_credential(key["secret"]))
