"""Refusals that people see: the contract's status and headers, a page in words, and nothing of it kept."""

import html
import re
import tomllib
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from string import Template

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar import pages
from sidecar.contract import Reason
from tests.protocol.world import BOB, FROZEN, MALLORY, NOW, Reply, World, ask, question, raw, replies, reply, token, uuid

HOST = "https://orders.example.com"
NAVIGATION = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8", "sec_fetch_mode": "navigate"}
EXPIRED = f"catalyst_session={token(exp=int(NOW) - 1)}"


def world() -> World:
    return World(relay_url="http://127.0.0.1:1")


class Page(HTMLParser):
    """A page taken apart. `links`: address and attributes; `words`: its text."""

    def __init__(self, found: Reply) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[dict[str, str | None]] = []
        self.words = ""
        self.attributes: set[str] = set()
        self.language: str | None = None
        self.feed(found.body.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag == "a":
            self.links.append(dict(attrs))
        if tag == "html":
            self.language = dict(attrs)["lang"]

    def handle_data(self, data: str) -> None:
        self.words += data

    @property
    def ways(self) -> list[str | None]:
        return [link["href"] for link in self.links]


def shown(found: Reply) -> Page:
    """The page of an answer, after what must hold of each."""
    style = re.findall(r"<style>(.*?)</style>", found.body.decode(), re.DOTALL)
    assert len(style) == 1
    digest = b64encode(sha256(style[0].encode()).digest()).decode()
    assert found.headers["content-security-policy"] == (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    assert found.headers["content-type"] == "text/html; charset=utf-8"
    assert (found.headers["cache-control"], found.headers["x-content-type-options"]) == ("no-store", "nosniff")
    page = Page(found)
    assert not {"script", "form", "iframe", "img", "object", "embed", "base"} & set(page.tags)
    assert not {name for name in page.attributes if name.startswith("on") or name in {"style", "src"}}
    assert page.tags.count("h1") == page.tags.count("main") == 1
    assert page.language == found.headers["content-language"]
    assert found.headers["x-request-id"] in page.words
    assert found.error in page.words
    assert "orders.example.com" in page.words or found.status == 503
    assert "$" not in page.words
    return page


def json_beside(here: World, data: bytes) -> Reply:
    """The same for a script: what the contract says."""
    return reply(here, data.replace(b"Sec-Fetch-Mode: navigate", b"Sec-Fetch-Mode: cors"))


# --- which refusals -----------------------------------------------------------------------------------------------------------------

DENIED = {
    "policy_denied": question(url=f"{HOST}/nothing?a=b", authorization=f"Bearer {token()}", **NAVIGATION),
    "orders_closed": question(url=f"{HOST}/api/v1/orders/closed", authorization=f"Bearer {token()}", **NAVIGATION),
    "org_required": question(url=f"{HOST}/me", authorization=f"Bearer {token(org='')}", **NAVIGATION),
    "not_a_member": question(url=f"{HOST}/me", authorization=f"Bearer {token()}", x_catalyst_org="nowhere", **NAVIGATION),
    "org_suspended": question(url=f"{HOST}/me", authorization=f"Bearer {token(sub=BOB, org=FROZEN)}", **NAVIGATION),
    "profile_suspended": question(url=f"{HOST}/me", authorization=f"Bearer {token(sub=MALLORY)}", **NAVIGATION),
}


@pytest.mark.parametrize("error", DENIED)
def test_a_person_who_is_denied_sees_why_and_what_to_do(error):
    found = reply(world(), DENIED[error])
    assert (found.status, found.error) == (403, error)
    page = shown(found)
    assert page.ways[0] is not None
    assert page.ways[0].startswith("/.catalyst/logout?return_to=%2F")
    assert page.ways[1:] == ["/"]


@pytest.mark.parametrize("error", DENIED)
def test_a_script_gets_what_the_contract_says_and_no_less_comes_with_the_page(error):
    here = world()
    page, plain = reply(here, DENIED[error]), json_beside(here, DENIED[error])
    assert plain.headers["content-type"] == "application/json"
    of_pages = {"content-security-policy", "referrer-policy", "x-content-type-options", "content-language", "x-request-id"}
    other = {"content-type", "content-length"}
    assert page.status == plain.status
    assert {name: page.headers[name] for name in page.headers.keys() - of_pages - other} == {
        name: plain.headers[name] for name in plain.headers.keys() - other
    }


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"accept": "text/html"},
        {"sec_fetch_mode": "navigate"},
        {"accept": "*/*", "sec_fetch_mode": "navigate"},
        {"accept": "text/html", "sec_fetch_mode": "cors"},
        {"accept": "text/html", "sec_fetch_mode": "navigate, cors"},
    ],
)
def test_json_for_everybody_else(headers):
    found = reply(world(), question(url=f"{HOST}/nothing", authorization=f"Bearer {token()}", **headers))
    assert (found.status, found.body) == (403, b'{"error": "policy_denied"}')
    assert "x-request-id" not in found.headers


@pytest.mark.parametrize("url", ["https://other.example.com/", f"{HOST}/a/../b"])
def test_what_nobody_meets_who_only_clicks_has_no_page(url):
    assert reply(world(), question(url=url, **NAVIGATION)).headers["content-type"] == "application/json"


def test_at_the_start_page_there_is_no_way_back_to_it():
    assert len(shown(reply(world(), question(url=f"{HOST}/", authorization=f"Bearer {token()}", **NAVIGATION))).ways) == 1
    assert shown(reply(World(), question(url=f"{HOST}/", authorization=f"Bearer {token()}", **NAVIGATION))).ways == []


def test_a_form_sent_after_the_session_ended_can_be_sent_again():
    found = reply(world(), question("POST", f"{HOST}:8443/api/v1/orders/1", cookie=EXPIRED, **NAVIGATION))
    assert (found.status, found.error) == (401, "expired_token")
    assert "www-authenticate" in found.headers
    page = shown(found)
    (link,) = page.links
    signed_in = "https%3A%2F%2Forders.example.com%3A8443%2F.catalyst%2Fsigned-in"
    assert link["href"] == f"https://login.example.com/start?x=1&return_to={signed_in}"
    assert (link["target"], link["rel"]) == ("_blank", "noopener")
    assert "reload" in page.words


def test_a_form_that_asks_for_a_stronger_login_says_so():
    found = reply(world(), question("POST", f"{HOST}/vault/1", authorization=f"Bearer {token()}", **NAVIGATION))
    assert (found.status, found.error) == (401, "step_up_required")
    (way,) = shown(found).ways
    assert way is not None
    assert way.endswith("%2F.catalyst%2Fsigned-in&acr_values=urn%3Agold&max_age=900&mfa=true")


def test_where_nobody_says_where_to_log_in_the_page_says_that():
    for method in ("GET", "POST"):
        page = shown(reply(World(login_url=""), question(method, f"{HOST}/me", **NAVIGATION)))
        assert page.ways == []
        assert "You are not signed in" in page.words
    assert (
        "You have no access"
        in shown(
            reply(World(login_url=""), question(url=f"{HOST}/vault/1", authorization=f"Bearer {token()}", **NAVIGATION))
        ).words
    )


def test_a_person_who_failed_too_often_and_one_who_is_too_early():
    here = world()
    for _ in range(61):
        ask(here, question(url=f"{HOST}/me", x_api_key="x"))
    found = reply(here, question(url=f"{HOST}/me", x_api_key="x", **NAVIGATION))
    assert (found.status, found.headers["retry-after"], shown(found).ways) == (429, "60", [""])
    here.age = 31
    found = reply(here, question(url=f"{HOST}/me", client="203.0.113.1", **NAVIGATION))
    assert (found.status, found.error, found.headers["retry-after"], shown(found).ways) == (503, "stale", "1", [""])


def test_nginx_has_pages_where_it_can_show_them():
    lines = {"X-Original-Method": "GET", "X-Original-URL": f"{HOST}/nothing", "X-Forwarded-For": "198.51.100.7"}
    lines |= {"Accept": "text/html", "Sec-Fetch-Mode": "navigate", "Authorization": f"Bearer {token()}"}
    here = world()
    assert reply(here, raw("GET /forward-auth/nginx HTTP/1.1", lines)).headers["content-type"] == "application/json"
    found = reply(here, raw("GET /forward-auth/nginx/refusal HTTP/1.1", lines))
    assert (found.status, shown(found).ways[1:]) == (403, ["/"])


# --- the request's id ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "wanted"),
    [
        ({"x_request_id": "abc-1"}, "abc-1"),
        ({"x_request_id": " abc "}, "abc"),
        ({"x_request_id": "a", "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}, "a"),
        ({"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}, "0af7651916cd43dd8448eb211c80319c"),
        ({"x_request_id": "x" * 201}, None),
        ({"x_request_id": " "}, None),
        ({"traceparent": "nonsense"}, None),
        ({}, None),
    ],
)
def test_a_page_names_the_request(headers, wanted):
    here = world()
    ids = set()
    for _ in range(2):
        found = reply(here, question(url=f"{HOST}/nothing", authorization=f"Bearer {token()}", **NAVIGATION, **headers))
        shown(found)
        ids.add(found.headers["x-request-id"])
    if wanted is None:
        assert len(ids) == 2
        assert all(re.fullmatch("[0-9a-f]{32}", each) for each in ids)
    else:
        assert ids == {wanted}


def test_pages_are_not_kept_and_other_answers_are():
    here = world()
    ask(here, DENIED["policy_denied"])
    assert here.check._answers.young == {}
    ask(here, DENIED["policy_denied"].replace(b"navigate", b"cors"))
    (kept,) = here.check._answers.young.values()
    assert (kept.status, kept.once) == (403, False)


# --- words and languages -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accept", "language"),
    [
        (None, "en"),
        (b"", "en"),
        (b"de", "de"),
        (b"de-DE,de;q=0.9,en;q=0.8", "de"),
        (b"en-US,en;q=0.9,de;q=0.8", "en"),
        (b"fr, de;q=0.1", "de"),
        (b"fr", "en"),
        (b"*", "en"),
        (b"de;q=0, *", "en"),
        (b"en;q=0, de;q=0", "en"),
        (b"DE ; q=0.5", "de"),
        (b"de;q=2", "en"),
        (b"\xff\xfe,de", "de"),
        (b"fr," * 100 + b"de", "en"),
    ],
)
def test_the_language_that_is_liked_best(accept, language):
    assert pages.best(accept) == language


def test_every_language_says_everything():
    files = {path.stem: tomllib.loads(path.read_text("utf-8")) for path in Path(pages.__file__).parent.glob("messages/*.toml")}
    assert files == pages.MESSAGES
    assert {"en", "de"} <= files.keys()

    def keys(messages):
        return {
            (kind, name, *sorted(Template(text).get_identifiers()))
            for kind, said in messages.items()
            for name, text in said.items()
        }

    for language, messages in files.items():
        assert {(kind, name) for kind, name, *_ in keys(messages)} == {(kind, name) for kind, name, *_ in keys(files["en"])}, (
            language
        )
        assert {values for _, _, *values_ in keys(messages) for values in values_} <= {"host"}


def test_every_kind_of_page_is_there():
    assert set(pages.KINDS.values()) | {"common", "unauthenticated"} == pages.MESSAGES["en"].keys()
    left = {Reason.UNKNOWN_HOST, Reason.UNTRUSTED_PEER, Reason.NO_SUCH_LOGIN_PATH}
    assert {reason for reason in Reason if reason not in pages.KINDS} == left | {
        Reason.MALFORMED_REQUEST,
        Reason.AMBIGUOUS_REQUEST,
        Reason.HEADER_ALIAS,
    }


def test_a_page_in_german():
    found = reply(world(), question(url=f"{HOST}/nothing", authorization=f"Bearer {token()}", accept_language="de", **NAVIGATION))
    assert "Darauf haben Sie keinen Zugriff" in shown(found).words


@given(st.text(), st.text(), st.text(), st.text())
def test_whatever_stands_in_a_page_is_text(reason, request_id, host, href):
    body = pages.page("denied", "en", reason=reason, request_id=request_id, host=host, ways=[pages.Way("back", href)])
    empty = pages.page("denied", "en", reason="", request_id="", host="", ways=[pages.Way("back", "")])
    for value in (reason, request_id, host, href):
        assert html.escape(value).encode("utf-8", "surrogatepass") in body
    assert body.count(b"<") == empty.count(b"<")
    assert body.count(b'"') == empty.count(b'"')


def test_a_head_without_a_question_has_a_page_too():
    """A browser behind a proxy that leaves out what its dialect needs, while the sidecar is not ready."""
    here = World()
    here.replica.state = None
    found = reply(here, raw("GET /forward-auth HTTP/1.1", {"Accept": "text/html", "Sec-Fetch-Mode": "navigate"}))
    assert (found.status, shown(found).ways) == (503, [""])


def test_scripts_hear_where_the_next_token_is():
    """Only where a cookie has expired, and only where there is a login."""
    here, target = world(), f"{HOST}/api/v1/orders/1?a=b&c=%2F"
    wanted = "/.catalyst/refresh?return_to=%2Fapi%2Fv1%2Forders%2F1%3Fa%3Db%26c%3D%252F"
    for method in ("GET", "POST", "DELETE"):
        for mode in ({}, {"sec_fetch_mode": "cors"}, {"sec_fetch_mode": "same-origin"}):
            found = reply(here, question(method, target, cookie=EXPIRED, **mode))
            assert (found.status, found.error, found.headers["x-catalyst-refresh"]) == (401, "expired_token", wanted)
    host_cookie = "__Host-" + EXPIRED
    assert reply(here, question(url=target, cookie=host_cookie)).headers["x-catalyst-refresh"] == wanted
    expired = token(exp=int(NOW) - 1)
    assert "x-catalyst-refresh" not in reply(here, question(url=target, authorization=f"Bearer {expired}")).headers
    assert "x-catalyst-refresh" not in reply(World(), question(url=target, cookie=EXPIRED)).headers
    assert (
        "x-catalyst-refresh" not in reply(World(login_url="", relay_url="http://a"), question(url=target, cookie=EXPIRED)).headers
    )
    assert "x-catalyst-refresh" not in reply(here, question(url=target, cookie="catalyst_session=x")).headers
    assert "x-catalyst-refresh" not in reply(here, question(url=target)).headers
    revoked = reply(here, question(url=target, cookie=f"catalyst_session={token(sid=uuid(22))}"))
    assert (revoked.error, "x-catalyst-refresh" in revoked.headers) == ("revoked_session", False)
    found = reply(here, question(url=target, cookie=EXPIRED, **NAVIGATION))
    assert (found.status, "x-catalyst-refresh" in found.headers) == (302, False)


def test_pipelined_pages_are_whole():
    found = replies(ask(world(), *DENIED.values()))
    assert [each.error for each in found] == list(DENIED)
