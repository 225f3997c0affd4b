"""Secrets, tokens and personal data of logins are looked for wherever they must not come out: logs, metrics, audit and outbox."""

from pathlib import Path
from typing import Any

import httpx2
import psycopg

from tests.acceptance.plane import Api, bootstrapped
from tests.acceptance.processes import control_plane
from tests.login.browser import Browser, Request
from tests.login.world import DESK, SHOP, World, protect
from tests.protocol import processes
from tests.providers.liar import Liar
from tests.providers.liar_world import Person

AUTH = "auth.example.test"
MAIL, WORD = "canary-4713@private.example", "canary-word-4714"
SECRET = "canary-secret-4715"


def fill(admin: Api, browser: Browser, liar: Liar) -> set[str]:
    """Log somebody in, well and badly; every token, code and secret that came out of it."""
    admin.post("/v1/orgs", {"slug": "acme", "name": "Acme"})
    client = {"client_id": "catalyst", "client_secret": SECRET, "just_in_time": True, "groups_claim": "groups"}
    provider = {"slug": "liar", "name": "Liar", "issuer": liar.issuer, **client}
    made = admin.post("/v1/orgs/acme/identity-providers", provider)["id"]
    browser.open(f"http://{SHOP}/page/{WORD}?{WORD}={MAIL}")
    browser.open(f"http://{DESK}/page/{WORD}")
    browser.ask("GET", f"http://{SHOP}/.catalyst/refresh?return_to=%2F{WORD}", navigate=False)
    for lie in ("wrong_nonce", "error_token", "userinfo_of_somebody_else"):
        liar.lies = {lie, "few_claims"}
        browser.forget("catalyst_login")
        browser.open(f"http://{AUTH}/login?org=acme")
    browser.ask("POST", f"http://{AUTH}/login", site="same-origin", form={"organisation": MAIL})
    browser.ask("GET", f"http://{AUTH}/login?return_to={MAIL}&acr_values={WORD}")
    browser.ask("GET", f"http://{SHOP}/.catalyst/callback?code={WORD}&return_to=%2F{WORD}", navigate=False)
    browser.open(f"http://{SHOP}/page/1")
    browser.ask(
        "POST", f"http://{SHOP}/.catalyst/logout?scope=provider&return_to=%2F{WORD}", site="same-origin", form={WORD: MAIL}
    )
    browser.open(f"http://{SHOP}/page/1")
    browser.ask("GET", f"http://{AUTH}/logout?return_to=http%3A%2F%2F{SHOP}%2F{WORD}")
    browser.ask("POST", f"http://{AUTH}/logout", site="same-origin", form={"scope": "provider", "return_to": WORD})
    browser.ask("GET", f"http://{AUTH}/logout/done?state={WORD}")
    for token in (liar.logout_token(WORD, WORD), liar.logout_token(WORD, WORD, "other"), WORD):
        browser.ask("POST", f"http://{AUTH}/login/backchannel/{made}", form={"logout_token": token})
    cookies = {part.partition("=")[2].partition(";")[0] for one in browser.seen for part in one.headers.get_list("set-cookie")}
    codes = {
        value
        for one in browser.seen
        for name, value in httpx2.URL(one.headers.get("location", "http://x/")).params.multi_items()
        if name in ("code", "state", "nonce", "challenge", "code_challenge", "ticket")
    }
    assert len(codes) > 10
    return {found for found in cookies | codes if len(found) > 20}


def test_nothing_private_of_a_login_reaches_a_log_a_metric_or_an_audit_row(database: Any, tmp_path: Path) -> None:
    administrator = bootstrapped(database.url("catalyst_control"))
    address = {"CATALYST_LOGIN_URL": f"http://{AUTH}/login", "CATALYST_OUTBOUND_NETWORKS": "127.0.0.0/8"}
    with Liar() as liar, control_plane(database.url(), tmp_path / "log", CATALYST_LOG_LEVEL="debug", **address) as program:
        relay = {"CATALYST_LOGIN_RELAY_URL": program.url, "CATALYST_ISSUER": "http://127.0.0.1:8080"}
        liar.auto = WORD
        liar.people[WORD] = Person(WORD, MAIL, f"{WORD} Example", groups=[WORD])
        liar.clients["catalyst"].secret = SECRET
        admin = Api(program.url, administrator.api_key)
        protect(admin)
        with (
            processes.sidecar(database.url("catalyst_sidecar"), tmp_path, **address, **relay) as sidecar,
            httpx2.Client(timeout=20) as http,
        ):
            world = World(None, admin, sidecar, liar, "", "")  # type: ignore[arg-type]  (there is a process in its place)
            browser = world.browser()

            def login_host(request: Request) -> httpx2.Response:
                url = request.url.replace(f"http://{AUTH}", program.url, 1)
                answer = http.request(request.method, url, headers=request.headers, content=request.content)
                http.cookies.clear()
                return answer

            browser.servers[AUTH] = login_host
            secrets = fill(admin, browser, liar)
            browser.close()
            metrics = httpx2.get(f"{program.ops}/metrics").text + sidecar.get("/metrics").text
            told = sidecar.log
        admin.close()
        program.stop()
        log = program.output.read_text() + told.read_text()
    with psycopg.connect(database.admin_url) as connection:
        rows = connection.execute("SELECT to_jsonb(e)::text FROM catalyst.audit_events e").fetchall()
        rows += connection.execute("SELECT to_jsonb(e)::text FROM catalyst.outbox_events e").fetchall()
        codes = connection.execute("SELECT to_jsonb(h)::text FROM catalyst.handoffs h").fetchall()
        codes += connection.execute("SELECT to_jsonb(l)::text FROM catalyst.provider_logouts l").fetchall()
    written = "\n".join(row for (row,) in [*rows, *codes])
    assert "session.created" in written
    assert "login.refused" in written
    assert "logout.received" in written
    assert "logout.refused" in written
    assert 'route="/login/callback/{provider:uuid}"' in metrics
    for private in {*secrets, MAIL, WORD, SECRET}:
        for place, text in (("log", log), ("metrics", metrics), ("audit, outbox, codes", written)):
            assert private not in text, (place, private)
