"""Where somebody may be sent back to: every hostile address, the honest ones, and what a browser makes of whatever is taken."""

import pytest
from ada_url import URL
from hypothesis import example, given
from hypothesis import strategies as st

from control_plane.login.return_to import _ADDRESS, _TARGET, local_target, parse
from tests.hostile.dialects import lines, raw

HOST = "app.example.com"
HOSTILE = [raw(line) for line in lines("return_addresses.txt")]

HONEST = [
    "https://app.example.com/",
    "https://app.example.com",
    "https://app.example.com:8443/deep?x=1&y=%20",
    "https://app.example.com/a%20b/c?d=https://evil.example/&e=//evil.example#"[:-1],
    "https://app.example.com/a/b.c/..d/e..?..=../..",
    "https://app.example.com/.catalyst/signed-in",
    "https://app.example.com/.well-known/x",
    "https://app.example.com/?x={}|^`\"<>'",
    "https://app.example.com/a:b@c;d,e!$&'()*+=~",
    "https://xn--mnchen-3ya.example.com/",
    "https://127.0.0.1:4443/",
    "https://[::1]:4443/x",
    "https://a_b.example.com/",
]

PIECES = st.lists(
    st.one_of(
        st.sampled_from([
            "https", "http", "javascript", ":", "/", "//", "\\", "@", "?", "#", ".", "..", "%2e", "%2f", "%5c", "%00", "\t", "\r\n", " ",
            HOST, "evil.example", "example.com", "127.1", "0x7f.1", "[::1]", ":443", ":8443", ";", "&", "xn--", "xn--zca", "%", "*",
            "\u3002", "\uff0f", "\uff20", "\u200b", "\u00ad", "ß", "https://", "https://app.example.com", "/.catalyst/", "-", "_", "a",
        ]),
        st.text(max_size=3),
    ),
    max_size=8,
).map("".join)  # fmt: skip


@pytest.mark.parametrize("address", HOSTILE, ids=repr)
def test_a_hostile_address_is_not_one_of_this_host(address):
    text = address.decode("utf-8", "replace")
    for https_only in (True, False):
        taken = parse(text, https_only=https_only)
        assert taken is None or taken.host != HOST
    assert local_target(text) is None


@pytest.mark.parametrize("text", HONEST)
def test_an_honest_address_is_kept_byte_for_byte(text):
    taken = parse(text, https_only=True)
    assert taken is not None
    assert str(taken) == (text if text.count("/") > 2 else text + "/")


def test_http_is_for_development():
    assert parse("http://app.example.com/", https_only=True) is None
    assert parse("http://app.example.com/", https_only=False) is not None


def test_an_address_that_is_too_long_is_refused():
    assert parse("https://app.example.com/" + "a" * 4080, https_only=True) is None
    assert local_target("/" + "a" * 4096) is None


@pytest.mark.parametrize("target", ["/", "/a?b=//c", "/a//b", "/?return_to=https://evil.example/", "/.catalyst/signed-in"])
def test_a_path_of_this_host_is_taken(target):
    assert local_target(target) == target


@given(text=st.one_of(PIECES, st.from_regex(_ADDRESS, fullmatch=True)))
@example("https://app.example.com\\@evil.example/")
@example("https://xn--zca.example.com/")
def test_a_browser_finds_the_same_host_in_whatever_is_taken(text):
    """By the WHATWG URL standard, which browsers follow where it differs from RFC 3986."""
    taken = parse(text, https_only=False)
    if taken is None:
        return
    seen = URL(str(taken))
    assert (seen.protocol, seen.hostname) == (f"{taken.scheme}:", taken.host)
    assert seen.port == ("" if taken.port == {"https": "443", "http": "80"}[taken.scheme] else taken.port)
    assert (seen.username, seen.password, seen.hash) == ("", "", "")
    assert seen.pathname.count("/") == taken.target.partition("?")[0].count("/")


@given(text=st.one_of(PIECES, st.from_regex(_TARGET, fullmatch=True)))
@example("/\\evil.example")
def test_a_browser_stays_on_the_host_by_whatever_path_is_taken(text):
    if local_target(text) is not None:
        assert URL(text, base=f"https://{HOST}/x").origin == f"https://{HOST}"
