"""One running system for these tests: providers, control plane, sidecar, an application, and four real proxies in front of it.

Everything listens on loopback. The login host is reached through Traefik; each proxy runs as `catalyst proxy-config` prints it.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from control_plane.cli.api import Api
from control_plane.cli.database import first_administrator
from control_plane.cli.processes import Process, accepts, free_port
from control_plane.cli.stack import PARTS, Stack
from control_plane.demo import provider
from control_plane.demo.provider import Account, Place
from control_plane.demo.world import register
from tests.browser.certificate import make_certificate
from tests.providers.liar import Liar
from tests.proxies.realm import running_proxy

DOORS = ("traefik", "envoy", "nginx", "caddy")


class Hosts(NamedTuple):
    """Where the two applications are, and where people log in: three sites, as browsers see them."""

    orders: str
    shop: str
    login: str


PLAIN = Hosts("orders.localhost", "shop.example.test", "auth.localhost")
SECURE = Hosts("orders.first.test", "www.second.test", "auth.third.test")
SESSION_SECONDS = 30
"""How long an access token lives here: the least that the control plane takes."""
FRESH_SECONDS = 20
"""How long ago a login may be for /fresh/**, by the policy."""
POLICY = Path(__file__).with_name("policy.yaml")


@dataclass
class Scene:
    """What runs, and who is known. `ports`: of the proxies, by name."""

    stack: Stack
    api: Api
    org: str
    place: Place
    liar: Liar
    accounts: dict[str, Account]
    profiles: dict[str, str]
    application: int
    ports: dict[str, int]
    scheme: str
    hosts: Hosts
    at_provider: dict[str, Any] = field(default_factory=dict)
    """Cookies of whoever has logged in at the real provider, by name."""

    def url(self, door: str, path: str, host: str = "") -> str:
        return f"{self.scheme}://{host or self.hosts.orders}:{self.ports[door]}{path}"

    def login(self, path: str) -> str:
        """On the login host, which the first of the proxies has."""
        return self.url(next(iter(self.ports)), path, self.hosts.login)


@contextmanager
def running_scene() -> Iterator[Scene]:
    """Everything over http, behind each proxy."""
    ports = {name: free_port() for name in DOORS}
    with ExitStack() as running:
        scene = running.enter_context(_running_stack(ports, "http", PLAIN))
        for name, port in ports.items():
            running.enter_context(_running_door(scene, name, port))
        yield scene


@contextmanager
def running_secure_scene() -> Iterator[Scene]:
    """Everything over https: nginx with a certificate, and otherwise as it is printed."""
    ports = {"nginx": free_port()}
    with ExitStack() as running:
        scene = running.enter_context(_running_stack(ports, "https", SECURE))
        certificate, key = make_certificate(scene.stack.data, SECURE)
        listen = f"listen 127.0.0.1:{ports['nginx']}"
        tls = f"{listen} ssl; ssl_certificate {certificate}; ssl_certificate_key {key}"
        running.enter_context(_running_door(scene, "nginx", ports["nginx"], lambda text: text.replace(listen, tls)))
        yield scene


@contextmanager
def _running_stack(ports: dict[str, int], scheme: str, hosts: Hosts) -> Iterator[Scene]:
    """What is not a proxy."""
    login = f"{scheme}://{hosts.login}:{next(iter(ports.values()))}"
    with ExitStack() as running:
        # Not pytest's folder: PostgreSQL runs as another user where the tests run as root.
        data = Path(tempfile.mkdtemp(prefix="catalyst-browser-"))
        running.callback(shutil.rmtree, data)
        stack = running.enter_context(Stack(data, _environ(f"{login}/login"), free_ports=True, parts=PARTS[:2]))
        api = running.enter_context(Api(stack.urls["control"], _administrators_key(stack)))
        place, liar = Place(), running.enter_context(Liar())
        accounts = {name: Account(name, f"{name}@acme.example") for name in ("alice", "bob")}
        org, profiles, callback = _populate(api, place, liar, accounts, hosts)
        running.callback(provider.start(place, callback, f"{login}/logout/done", accounts.values(), data).stop)
        application = running.enter_context(_running_application(data))
        yield Scene(stack, api, org, place, liar, accounts, profiles, application, ports, scheme, hosts)


def _administrators_key(stack: Stack) -> str:
    """In a thread of its own: Playwright's event loop may be running in this one."""
    with ThreadPoolExecutor(1) as elsewhere:
        return elsewhere.submit(first_administrator, stack.settings("catalyst_control")).result().api_key


def _environ(login_url: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("CATALYST_")} | {
        "CATALYST_LOGIN_URL": login_url,
        "CATALYST_LOGIN_LISTEN": f"127.0.0.1:{free_port()}",
        "CATALYST_LOGIN_TRUSTED_PROXIES": "127.0.0.0/8",
        "CATALYST_OUTBOUND_NETWORKS": "127.0.0.0/8",
        "CATALYST_SESSION_SECONDS": str(SESSION_SECONDS),
    }


def _populate(api: Api, place: Place, liar: Liar, accounts: dict[str, Account], hosts: Hosts) -> tuple[str, dict[str, str], str]:
    """Alice, who may read orders, and bob, who may not; both known at either provider."""
    org: str = api.post("/v1/orgs", {"slug": "acme", "name": "Acme"})["id"]
    callback = register(api, org, "Acme accounts", place.issuer, place.client_id, place.client_secret)
    register(api, org, "The other one", liar.issuer, "catalyst", liar.clients["catalyst"].secret)
    profiles = {}
    for name, account in accounts.items():
        identities = [{"issuer": issuer, "subject": name} for issuer in (place.issuer, liar.issuer)]
        person = {"kind": "user", "email": account.email, "display_name": name.title(), "identities": identities}
        profiles[name] = api.post("/v1/profiles", person)["id"]
        api.post(f"/v1/orgs/{org}/memberships", {"profile": profiles[name]})
    subject = {"kind": "profile", "id": profiles["alice"]}
    api.post("/v1/grants", {"org": org, "subject": subject, "entitlement": "orders:read"})
    for slug, host in (("orders", hosts.orders), ("shop", hosts.shop)):
        api.post("/v1/applications", {"slug": slug, "name": slug.title(), "hosts": [host]})
        yaml = {"content-type": "application/yaml"}
        api.call("PUT", f"/v1/applications/{slug}/policy/draft", content=POLICY.read_bytes(), headers=yaml)
        api.post(f"/v1/applications/{slug}/policy/publish")
    return org, profiles, callback


@contextmanager
def _running_door(scene: Scene, name: str, port: int, change: Callable[[str], str] = str) -> Iterator[int]:
    """One proxy, as its configuration is printed, in front of the application and the login host."""
    login = scene.stack.settings("catalyst_control")["CATALYST_LOGIN_LISTEN"]
    sidecar = scene.stack.listen["sidecar"]
    with running_proxy(
        name, scene.application, sidecar, "--login", f"{scene.hosts.login}={login}", port=port, change=change
    ) as running:
        yield running


@contextmanager
def _running_application(data: Path) -> Iterator[int]:
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "tests.browser.application:create", "--factory"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--log-level", "warning"]
    process = Process("application", command, data / "logs" / "application.log", os.environ, Path(__file__).parents[2])
    process.wait_until(lambda: accepts(f"127.0.0.1:{port}"), 20)
    try:
        yield port
    finally:
        process.stop()
