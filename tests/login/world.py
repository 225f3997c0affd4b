"""What a login needs to be tried: a control plane, a sidecar process before two applications, a provider, a browser."""

from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import psycopg
import structlog
import structlog.testing

from control_plane.login.catalogue import CATALOGUES
from control_plane.login.reasons import said_for
from tests.acceptance.plane import Api, Plane
from tests.login.browser import Browser, Request
from tests.protocol import processes
from tests.providers.liar import Liar
from tests.providers.liar_world import GOLD

APPLICATION = "app.example.com"
"""The host that tests/hostile/return_addresses.txt is about."""
SHOP, DESK, OTHER = "shop.example.test", "desk.elsewhere.test", "unknown.example.test"
"""Two hosts of applications on different domains, and one that is nobody's."""

SECRET = "catalyst-secret"
"""What the liar knows us by."""

_addresses = count(1)
_http = httpx2.Client(timeout=20, verify=False)

POLICY = """
version: 1
rules:
  - {id: vault, effect: allow, paths: ["/vault/**"], when: {mfa: true}}
  - {id: gold, effect: allow, paths: ["/gold/**"], when: {acr: ["urn:example:gold"]}}
  - {id: fresh, effect: allow, paths: ["/fresh/**"], when: {max_auth_age: 5m}}
  - {id: members, effect: allow, paths: ["/", "/page/**", "/deep"]}
"""


@dataclass
class World:
    """Everything, and who is who. `provider`: the id of the liar's configuration in the org acme."""

    plane: Plane
    admin: Api
    sidecar: processes.Sidecar
    liar: Liar
    provider: str
    alice: str

    def browser(self) -> Browser:
        """A new browser, without a cookie."""
        number = next(_addresses)
        address = f"198.18.{number // 250}.{number % 250}"
        return Browser(dict.fromkeys((SHOP, DESK, OTHER, APPLICATION), self.application), address)

    def application(self, request: Request) -> httpx2.Response:
        """An application behind a proxy that asks the sidecar first: it answers what it was asked, and who asks."""
        answer = self.check(request)
        if answer.status_code != 200:
            return answer
        who = answer.headers["x-user-sub"]
        return httpx2.Response(
            200, json={"url": request.url, "method": request.method, "sub": who, "body": request.content.decode()}
        )

    def check(self, request: Request) -> httpx2.Response:
        """The sidecar's answer to a request, as Traefik puts the question."""
        parts = urlsplit(request.url)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        asked = {
            "method": request.method,
            "proto": parts.scheme,
            "host": parts.netloc,
            "uri": target or "/",
            "for": request.headers["x-forwarded-for"],
        }
        headers = request.headers | {f"x-forwarded-{name}": value for name, value in asked.items()}
        address, port = self.sidecar.check
        answer = _http.get(f"http://{address}:{port}/forward-auth/traefik", headers=headers)
        # Cookies are the browser's business, and the client has a jar of its own.
        _http.cookies.clear()
        return answer

    def configure(self, **fields: Any) -> None:
        """Change the provider's configuration."""
        self.admin.patch(f"/v1/orgs/acme/identity-providers/{self.provider}", fields)

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Audit events of a kind, newest first."""
        items: list[dict[str, Any]] = self.admin.get("/v1/audit-events", type=kind, limit=100)["items"]
        return items

    def sessions(self, profile: str | None = None) -> list[dict[str, Any]]:
        """Sessions that can be used."""
        items: list[dict[str, Any]] = self.admin.get("/v1/sessions", profile=profile or self.alice, active="true")["items"]
        return items

    def query(self, statement: str, *arguments: object) -> list[Any]:
        """SQL by the owner of everything."""
        with psycopg.connect(self.plane.settings.database_url.replace("catalyst_control@", "postgres@")) as connection:
            cursor = connection.execute(statement, arguments)
            return cursor.fetchall() if cursor.description else []


def says(answer: httpx2.Response, code: str) -> bool:
    """Whether a page tells of a refusal with this code, whatever its words are today."""
    return str(CATALOGUES["en"].text(f"reason.{said_for(code)}.title")) in answer.text


@contextmanager
def log_lines() -> Iterator[list[MutableMapping[str, Any]]]:
    """What the control plane logs meanwhile, at any level."""
    quiet = structlog.get_config()["wrapper_class"]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(0))
    try:
        with structlog.testing.capture_logs() as lines:
            yield lines
    finally:
        structlog.configure(wrapper_class=quiet)


def parameters(url: str) -> dict[str, str]:
    """The query of an address."""
    return {name: value for name, (value,) in parse_qs(urlsplit(url).query).items()}


def protect(admin: Api) -> None:
    """Two applications. They stay: a test that changes one puts it right, or makes its own."""
    for slug, host in (("shop", SHOP), ("desk", DESK), ("hostile", APPLICATION)):
        application(admin, slug, host, POLICY)


def application(admin: Api, slug: str, host: str, policy: str) -> None:
    """An application with a policy in force."""
    admin.post("/v1/applications", {"slug": slug, "name": slug.title(), "hosts": [host]})
    admin.put_policy(slug, policy)
    admin.post(f"/v1/applications/{slug}/policy/publish", {})


def furnish(admin: Api, liar: Liar) -> tuple[str, str]:
    """An org with a provider and alice in it; the provider's id and alice's."""
    admin.post("/v1/orgs", {"slug": "acme", "name": "Acme"})
    client = {"client_id": "catalyst", "client_secret": SECRET}
    provider = {"slug": "liar", "name": "Liar", "issuer": liar.issuer, **client, "second_factor_acr": [GOLD]}
    provider_id = admin.post("/v1/orgs/acme/identity-providers", provider)["id"]
    identity = {"issuer": liar.issuer, "subject": "alice"}
    alice = admin.post("/v1/profiles", {"email": "alice@example.com", "identities": [identity]})["id"]
    admin.post("/v1/orgs/acme/memberships", {"profile": alice})
    return provider_id, alice


@contextmanager
def sidecar_of(plane: Plane, folder: Path, **variables: str) -> Iterator[processes.Sidecar]:
    """A sidecar that relays to this control plane."""
    database = plane.settings.database_url.replace("catalyst_control@", "catalyst_sidecar@")
    here = {"CATALYST_LOGIN_URL": plane.settings.login_url, "CATALYST_ISSUER": plane.settings.issuer}
    with processes.sidecar(database, folder, **(here | variables)) as running:
        yield running
