"""The real thing for tests: database, control plane and sidecar as processes, and proxies with the printed configuration."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from control_plane.cli.api import Api
from control_plane.cli.database import first_administrator
from control_plane.cli.processes import Process, accepts, free_port
from control_plane.cli.stack import PARTS, Stack
from control_plane.proxies import PROXIES, Address, Parameters
from tests.proxies.wire import Answer, Recorder, head, send

HOST = "orders.example.com"
LOGIN = "https://login.example.com/start"
POLICY = Path(__file__).with_name("policy.yaml")


@dataclass
class Realm:
    """A running system: alice may read orders, bob may not; `key` is an API key that may."""

    stack: Stack
    api: Api
    recorder: Recorder
    org: str
    alice: str
    bob: str
    token: str
    session: str
    bobs_token: str
    key: str

    @property
    def sidecar_port(self) -> int:
        return int(self.stack.listen["sidecar"].rpartition(":")[2])


@dataclass
class Door:
    """One proxy in front of the recording application."""

    name: str
    port: int
    recorder: Recorder

    def ask(
        self, method: str, target: str | bytes, *headers: tuple[str, str], host: str | None = HOST, body: bytes = b""
    ) -> Answer:
        """One request. `received` of the recorder holds what came through since."""
        self.recorder.requests.clear()
        if body:
            headers = (*headers, ("Content-Length", str(len(body))))
        return send(self.port, head(method, target, *headers, host=host) + body)


def cookie(token: str) -> tuple[str, str]:
    return ("Cookie", f"theme=dark; catalyst_session={token}")


@contextmanager
def running_realm(**settings: str) -> Iterator[Realm]:
    """Start everything in a folder of its own (not pytest's: PostgreSQL runs as another user where the tests run as root)."""
    with ExitStack() as running:
        data = Path(tempfile.mkdtemp(prefix="catalyst-realm-"))
        running.callback(shutil.rmtree, data)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("CATALYST_")}
        # Nobody logs in here: what is asked of the login is refused at once.
        login = {"CATALYST_LOGIN_URL": LOGIN, "CATALYST_LOGIN_RELAY_URL": "http://127.0.0.1:9"}
        environ = {**inherited, **login, "CATALYST_SESSION_SECONDS": "3600", **settings}
        stack = running.enter_context(Stack(data, environ, free_ports=True, parts=PARTS[:2]))
        key = first_administrator(stack.settings("catalyst_control")).api_key
        api = running.enter_context(Api(stack.urls["control"], key))
        recorder = Recorder()
        running.callback(recorder.close)
        yield populate(stack, api, recorder)


def populate(stack: Stack, api: Api, recorder: Recorder) -> Realm:
    org = api.post("/v1/orgs", {"slug": "acme", "name": "Acme"})["id"]
    alice, bob = (api.post("/v1/profiles", {"kind": "user", "email": f"{name}@acme.example"})["id"] for name in ("alice", "bob"))
    for profile in (alice, bob):
        api.post(f"/v1/orgs/{org}/memberships", {"profile": profile})
    subject = {"kind": "profile", "id": alice}
    api.post("/v1/grants", {"org": org, "subject": subject, "entitlement": "orders:read"})
    key = api.post("/v1/api-keys", {"profile": alice, "org": org, "name": "test"})["secret"]
    api.post("/v1/applications", {"slug": "orders", "name": "Orders", "hosts": [HOST], "assertions": True})
    publish(api, POLICY.read_text())
    mine, his = (api.post("/v1/sessions", {"profile": profile, "org": org}) for profile in (alice, bob))
    return Realm(stack, api, recorder, org, alice, bob, mine["token"], mine["id"], his["token"], key)


def publish(api: Api, document: str) -> None:
    """Put a policy in force and wait until nothing older can be asked for."""
    yaml = {"content-type": "application/yaml"}
    api.call("PUT", "/v1/applications/orders/policy/draft", content=document.encode(), headers=yaml)
    api.post("/v1/applications/orders/policy/publish")


def find_program(name: str) -> str:
    """Where a proxy's program is; skips where it is not installed."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def printed_configuration(name: str, application: int, sidecar: str, port: int, *more: str) -> str:
    """What `catalyst proxy-config` prints."""
    places = ("--application", f"127.0.0.1:{application}", "--sidecar", sidecar, "--listen", f"127.0.0.1:{port}")
    return printed("proxy-config", name, *places, "--header", "x-tier", "--header", "tenant-id", *more)


def printed(*arguments: str) -> str:
    """What `catalyst` prints."""
    return subprocess.run([sys.executable, "-m", "control_plane", *arguments], check=True, capture_output=True, text=True).stdout


@contextmanager
def running_proxy(
    name: str, application: int, sidecar: str, *more: str, port: int = 0, change: Callable[[str], str] = str
) -> Iterator[int]:
    """A real proxy with the printed configuration, which a test may `change`; its port, a free one where none is named."""
    program, port, kind = find_program(name), port or free_port(), PROXIES[name]
    folder = Path(tempfile.mkdtemp(prefix=f"catalyst-{name}-"))
    # nginx keeps bodies in files there, as another user where it is started by root.
    folder.chmod(0o755)
    (folder / kind.file).write_text(change(printed_configuration(name, application, sidecar, port, *more)))
    if kind.script is not None:
        (folder / kind.script_file).write_text(printed("proxy-config", name, "--script"))
    parameters = Parameters(Address("127.0.0.1", application), Address.parse(sidecar), Address("127.0.0.1", port))
    process = Process(name, [program, *kind.command(parameters, kind.file)[1:]], folder / "log", os.environ, folder)
    try:
        process.wait_until(lambda: accepts(f"127.0.0.1:{port}"), 20)
        # Some listen before they route.
        process.wait_until(lambda: send(port, head("GET", "/-/nothing")).status != 404, 20)
        yield port
    finally:
        process.stop()
        shutil.rmtree(folder)
