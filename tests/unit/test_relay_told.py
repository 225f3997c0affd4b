"""What a control plane may say through the sidecar: of a lying one, nothing but a refusal comes through."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.contract import IDENTITY_HEADERS, REVISION
from sidecar.relay.client import Received
from sidecar.relay.errand import Errand, cookie_names
from sidecar.relay.told import Unusable, told

ORIGIN = "https://orders.example.com:8443"
COOKIES = cookie_names("catalyst_session")
ERRAND = Errand("callback", {}, b"", None, ORIGIN, COOKIES)
GOOD: dict[str, Any] = {"status": 303, "location": "/a?b=c"}


def tell(said: Any) -> tuple[int, list[tuple[str, str]], bytes]:
    """Status, headers and body that a browser gets for what the control plane said."""
    data = said if isinstance(said, bytes) else json.dumps(said).encode()
    status, before, body = told(Received(200, "application/json", data), ERRAND)
    first, *lines = before.decode("ascii").split("\r\n")
    assert first.startswith(f"HTTP/1.1 {status} ")
    assert lines.pop() == f"{REVISION}: "
    return status, [(name, value) for name, _, value in (line.partition(": ") for line in lines)], body


def test_the_names_of_the_cookies():
    assert cookie_names("sid") == {
        "sid",
        "__Host-sid",
        "catalyst_refresh",
        "__Secure-catalyst_refresh",
        "catalyst_binding",
        "__Host-catalyst_binding",
    }


def test_what_is_good_comes_through_as_it_is():
    page = "<!doctype html>é"
    headers = {
        "content-security-policy": "default-src 'none'; style-src 'sha256-x='",
        "x-catalyst-login": "https://l.example/login",
    }
    status, lines, body = tell({"status": 401, "content_type": "text/html; charset=utf-8", "body": page, "headers": headers})
    assert (status, body.decode()) == (401, page)
    assert dict(lines) == headers | {
        "cache-control": "no-store",
        "referrer-policy": "same-origin",
        "x-content-type-options": "nosniff",
        "content-type": "text/html; charset=utf-8",
        "content-length": str(len(page.encode())),
    }


def test_a_page_without_a_policy_gets_the_strictest():
    _, lines, _ = tell({"status": 400, "content_type": "text/html; charset=utf-8", "body": "<script>alert(1)</script>"})
    assert dict(lines)["content-security-policy"].startswith("default-src 'none';")


@pytest.mark.parametrize(
    "status", [200, 201, 204, 206, 299, 100, 101, 301, 304, 308, 402, 500, 502, 0, -1, 303.0, "303", None, True, [303]]
)
def test_no_other_status(status):
    with pytest.raises(Unusable):
        tell(GOOD | {"status": status})


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"null",
        b"[]",
        b'"x"',
        b"303",
        b"{",
        b'{"status": 303}x',
        b"\xff",
        b"[" * 100_000,
        b'{"status": NaN}',
        {},
        {"status": 303},
    ],
)
def test_what_is_no_answer(said):
    with pytest.raises(Unusable):
        tell(said)


@pytest.mark.parametrize(
    "received",
    [
        Received(204, "application/json", json.dumps(GOOD).encode()),
        Received(401, "application/json", json.dumps(GOOD).encode()),
        Received(302, "application/json", json.dumps(GOOD).encode()),
        Received(200, "text/html", json.dumps(GOOD).encode()),
        Received(200, "", json.dumps(GOOD).encode()),
    ],
)
def test_only_a_200_with_json_is_an_answer(received):
    with pytest.raises(Unusable):
        told(received, ERRAND)


@pytest.mark.parametrize(
    "place",
    [
        "/",
        "/a",
        "/a//b?c=https://x",
        "https://login.example.com/login?a=b%2F",
        "http://[::1]:8080/",
        "https://a.example",
        "https://a?b",
    ],
)
def test_places_to_go_to(place):
    _, lines, _ = tell({"status": 302, "location": place})
    assert dict(lines)["location"] == place


BAD_PLACES = [
    "//evil.example",
    "/\\evil.example",
    "\\\\evil.example",
    "https:evil.example",
    "https:/evil.example",
    "https:\\\\evil.example",
    "https://evil.example\\@good.example/",
    "https://user@evil.example/",
    "https://user:pw@evil.example/",
    "https://evil.example#x",
    "https://",
    "https:///x",
    "javascript:alert(1)",
    "JAVASCRIPT:alert(1)",
    "data:text/html,x",
    "ftp://a.example/",
    "evil.example",
    "a/b",
    "?x",
    " /x",
    "/x y",
    "/x\r\nset-cookie: a=b",
    "/x\n",
    "/x\x00",
    "/\xe9",
    "/\t/evil.example",
    "HTTPS://a.example/",
    ["/"],
    1,
    "/" + "a" * 20_000,
]


@pytest.mark.parametrize("place", BAD_PLACES)
def test_places_to_keep_away_from(place):
    for status in (302, 303, 307):
        with pytest.raises(Unusable):
            tell({"status": status, "location": place})


def test_a_request_goes_on_with_its_body_to_the_same_host_only():
    for place in ("/a", f"{ORIGIN}/a"):
        assert tell({"status": 307, "location": place})[0] == 307
    for place in (
        "https://orders.example.com/a",
        "http://orders.example.com:8443/a",
        f"{ORIGIN}.evil.example/",
        ORIGIN,
        f"{ORIGIN}@evil/",
    ):
        with pytest.raises(Unusable):
            tell({"status": 307, "location": place})


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 429, 503])
def test_a_place_belongs_to_a_redirect(status):
    assert tell({"status": status})[0] == status
    with pytest.raises(Unusable):
        tell({"status": status, "location": "/"})


@pytest.mark.parametrize("name", sorted(COOKIES))
def test_our_cookies(name):
    cookies = [f"{name}=a.b-c_d; Path=/; HttpOnly; SameSite=Lax; Secure", f"{name}=; Max-Age=0"]
    _, lines, _ = tell(GOOD | {"cookies": cookies})
    assert [value for key, value in lines if key == "set-cookie"] == cookies


@pytest.mark.parametrize(
    "cookie",
    [
        "session=x; Path=/",
        "Catalyst_session=x",
        "__host-catalyst_session=x",
        "catalyst_session2=x",
        "catalyst_session =x",
        " catalyst_session=x",
        "catalyst_session",
        "=catalyst_session",
        "catalyst_session=a b",
        "catalyst_session=a,b=c",
        'catalyst_session="x"',
        "catalyst_session=x\r\nx-user-sub: root",
        "catalyst_session=x; Path=/\nx: y",
        "catalyst_session=\xe9",
        "catalyst_session=x;\x00",
        "other=1; catalyst_session=x",
        "catalyst_session=" + "x" * 9000,
        "",
        None,
        1,
        {"catalyst_session": "x"},
    ],
)
def test_cookies_of_others(cookie):
    with pytest.raises(Unusable):
        tell(GOOD | {"cookies": ["catalyst_refresh=x", cookie]})


@pytest.mark.parametrize("cookies", ["catalyst_session=x", {"0": "catalyst_session=x"}, 1, ["catalyst_session=x"] * 13])
def test_cookies_that_are_no_list(cookies):
    with pytest.raises(Unusable):
        tell(GOOD | {"cookies": cookies})


@pytest.mark.parametrize(
    "name", [*IDENTITY_HEADERS, "x-forward-auth-error", "set-cookie", "location", "content-length", "connection", "x-tier"]
)
@pytest.mark.parametrize("change", [str.lower, str.title, lambda name: name.replace("-", "_")])
def test_other_headers_stay_behind(name, change):
    _, lines, _ = tell({"status": 403, "headers": {change(name): "liar"}})
    assert "liar" not in dict(lines).values()


@pytest.mark.parametrize(
    "headers",
    [
        {"content-security-policy": "a\r\nx: y"},
        {"retry-after": "1\n"},
        {"x-catalyst-login": ["https://a"]},
        {"retry-after": 5},
        {"content-language": "\xe9"},
        {"vary": "v" * 20_000},
        [["vary", "x"]],
        "vary: x",
    ],
)
def test_headers_that_are_none(headers):
    with pytest.raises(Unusable):
        tell(GOOD | {"headers": headers})


@pytest.mark.parametrize(
    "media_type", ["text/html", "application/javascript", "image/svg+xml", "text/html; charset=utf-8\r\nx: y", 1, []]
)
def test_other_bodies(media_type):
    with pytest.raises(Unusable):
        tell({"status": 400, "content_type": media_type, "body": "x"})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
SAID = st.fixed_dictionaries(
    {},
    optional={
        "status": st.sampled_from([200, 302, 303, 307, 401, 403]) | JSON,
        "location": st.sampled_from(["/", *map(str, BAD_PLACES)]) | JSON,
        "cookies": st.lists(st.sampled_from(["catalyst_session=x; Path=/", "a=b"]) | st.text(), max_size=3) | JSON,
        "content_type": st.sampled_from(["text/html; charset=utf-8"]) | JSON,
        "body": st.text() | JSON,
        "headers": st.dictionaries(
            st.sampled_from(["vary", "x-user-sub", "retry-after"]) | st.text(), st.text() | JSON, max_size=3
        )
        | JSON,
    },
)


@given(SAID)
@example({"status": 303, "location": "/", "body": "\ud800"})
def test_whatever_is_said_no_allow_and_no_header_comes_of_it(said):
    data = json.dumps(said).encode()
    try:
        status, before, body = told(Received(200, "application/json", data), ERRAND)
    except Unusable:
        return
    assert 300 <= status < 600
    lines = before.split(b"\r\n")
    names = {line.partition(b":")[0].decode() for line in lines[1:]}
    known = {"cache-control", "content-language", "content-length", "content-security-policy", "content-type", "location"}
    known |= {
        "permissions-policy",
        "referrer-policy",
        "retry-after",
        "set-cookie",
        "vary",
        "x-catalyst-login",
        "x-content-type-options",
    }
    assert names <= known | {REVISION}
    assert b"\n" not in before.replace(b"\r\n", b"")
    assert f"content-length: {len(body)}".encode() in lines
