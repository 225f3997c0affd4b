"""One reading of a request, or none. Classes of attack: see the advisories named; each line of HOSTILE is one test."""

from ipaddress import ip_address
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sidecar.canonical import Refused, canonical, canonical_host, canonical_url
from sidecar.contract import MAX_URL_BYTES, Reason
from tests.decisions import reference, strategies

CLIENT = ip_address("192.0.2.1")


def read(target, host="example.com", method="GET", scheme="https", client=CLIENT):
    return canonical(method, scheme, host, target, client)


# Never openable (CVE-2026-33494, CVE-2026-48020, CVE-2025-66490, CVE-2021-32779).
HOSTILE = [
    b"",
    b"*",
    b"orders",
    b"http://example.com/",
    b"/%00",
    b"/a%00b",
    b"/\x00",
    b"/a\\b",
    b"/a?x=\\",
    b"/a#b",
    b"/a?b#c",
    b"/a b",
    b"/a\tb",
    b"/a\x7f",
    b"/%0a",
    b"/%0d%0aX-User-Sub:%20admin",
    b"/%1f",
    b"/%7f",
    b"/%c2%85",
    b"/a?x=\r\n",
    b"/.",
    b"/..",
    b"/a/../b",
    b"/a/./b",
    b"/a/..",
    b"/%2e",
    b"/%2e%2e/admin",
    b"/%2E%2e/admin",
    b"/.%2e/admin",
    b"/%2e./admin",
    b"/..;/admin",
    b"/..;a=b/admin",
    b"/.;/admin",
    b"/..%3b/admin",
    b"/a;/../b",
    b"/public/..%2fadmin",
    b"/public%2f..%2fadmin",
    b"/public/..%5cadmin",
    b"/public%5c..%5cadmin",
    b"/%252e%252e/admin",
    b"/%25%32%65%25%32%65/admin",
    b"/%252e%252e%252fadmin",
    b"/%25252e%25252e/admin",
    b"/%252500",
    b"/..%3f",
    b"/..%23",
    b"/..%20/admin",
    b"/%20../admin",
    b"/..%c2%a0/admin",
    "/．．/admin".encode(),  # noqa: RUF001 - full-width dots
    b"/%ef%bc%8e%ef%bc%8e/admin",
    b"/%c0%ae%c0%ae/admin",
    b"/%c0%af",
    b"/%e0%80%af",
    b"/%ff",
    b"/\xff",
    b"/%c3",
    b"/%c3\xa9",
    b"/%ed%a0%80",
    b"/%",
    b"/%2",
    b"/%zz",
    b"/%u002e",
    b"/% 41",
    b"/" + b"%25" * 1 + b"25" * 100,
]


@pytest.mark.parametrize("target", HOSTILE, ids=repr)
def test_hostile_targets_are_refused_as_ambiguous(target):
    with pytest.raises(Refused) as refused:
        read(target)
    assert refused.value.reason is Reason.AMBIGUOUS_REQUEST


@pytest.mark.parametrize(
    ("target", "segments", "exceptions"),
    [
        (b"/a%2fb", ("a%2fb",), {"%2f"}),
        (b"/a%2Fb", ("a%2fb",), {"%2f"}),
        (b"/a%5Cb", ("a%5cb",), {"%5c"}),
        (b"/100%25", ("100%25",), {"%25"}),
        (b"/a%252fb", ("a%252fb",), {"%25"}),
        (b"/a%3Bb", ("a%3bb",), {"%3b"}),
        (b"/a%3fb", ("a%3fb",), {"%3f"}),
        (b"/a%23b", ("a%23b",), {"%23"}),
        (b"/a;b=c/d", ("a;b=c", "d"), {";"}),
        (b"//", ("", ""), {"//"}),
        (b"//a", ("", "a"), {"//"}),
        (b"/a//b", ("a", "", "b"), {"//"}),
        (b"/a//", ("a", "", ""), {"//"}),
        (b"/a%2fb;c//%C3%A9", ("a%2fb;c", "", "é"), {"%2f", ";", "//"}),
    ],
)
def test_openable_sequences_stay_opaque_and_are_named(target, segments, exceptions):
    request = read(target)
    assert request.segments == segments
    assert request.exceptions == exceptions


@pytest.mark.parametrize(
    ("target", "path", "segments"),
    [
        (b"/", "/", ()),
        (b"/?a=b", "/", ()),
        (b"/a", "/a", ("a",)),
        (b"/a/", "/a/", ("a", "")),
        (b"/a/b.c", "/a/b.c", ("a", "b.c")),
        (b"/a?b;c//%2f..", "/a", ("a",)),
        (b"/%61%20%7E", "/%61%20%7E", ("a ~",)),
        (b"/gr%C3%BC%C3%9Fe", "/gr%C3%BC%C3%9Fe", ("grüße",)),
        ("/grüße".encode(), "/grüße", ("grüße",)),
        (b"/.well-known/..a/a..b/...", "/.well-known/..a/a..b/...", (".well-known", "..a", "a..b", "...")),
        (b"/a+b,c=d:e@f!$&'()*_-~", "/a+b,c=d:e@f!$&'()*_-~", ("a+b,c=d:e@f!$&'()*_-~",)),
    ],
)
def test_paths_are_split_and_decoded_once(target, path, segments):
    request = read(target)
    assert (request.path, request.segments, request.exceptions) == (path, segments, frozenset())


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("example.com", "example.com"),
        (b"EXAMPLE.com", "example.com"),
        ("example.com:443", "example.com"),
        ("example.com.", "example.com"),
        ("example.com.:65535", "example.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example".encode(), "xn--bcher-kva.example"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("my_service", "my_service"),
        ("192.0.2.1:80", "192.0.2.1"),
        ("[2001:DB8:0::1]", "[2001:db8::1]"),
        ("[::1]:8080", "[::1]"),
    ],
)
def test_hosts_are_brought_to_one_form(host, name):
    assert canonical_host(host) == name
    assert canonical_host(name) == name


@pytest.mark.parametrize(
    "host",
    [
        "",
        ".",
        "a..b",
        ".a",
        "a.b..",
        "a:",
        "a:b",
        "a:1:2",
        "a:65536",
        "a:-1",
        "a:٣",
        "a b",
        "a/b",
        "a@b",
        "a%2eb",
        "a,b",
        "-a",
        "a-",
        "a-.b",
        "[::1",
        "::1",
        "[::1]x",
        "[::1]:",
        "[::1]:x",
        "[fe80::1%25eth0]",
        "[1.2.3.4]",
        "[]",
        "a\x00",
        "a" * 64,
        "a." * 127 + "ab",
        "é" * 400,
        "*.example.com",
        b"\xff.example",
        "�.example",
        "example.com#",
        "example.com?",
        "a\\b",
    ],
    ids=repr,
)
def test_hosts_that_are_none_are_malformed(host):
    with pytest.raises(Refused) as refused:
        canonical_host(host)
    assert refused.value.reason is Reason.MALFORMED_REQUEST


@pytest.mark.parametrize("host", ["ｅxample.com", "straße.example", "example。com"])  # noqa: RUF001
def test_hosts_with_two_readings_are_ambiguous(host):
    with pytest.raises(Refused) as refused:
        canonical_host(host)
    assert refused.value.reason is Reason.AMBIGUOUS_REQUEST


@pytest.mark.parametrize("method", ["", "get", "Get", "GET ", " GET", "GE\nT", "G" * 33, "1GET", "GÉT", b"\xff", "GET\x00"])
def test_methods_in_other_spellings_are_malformed(method):
    with pytest.raises(Refused) as refused:
        read(b"/", method=method)
    assert refused.value.reason is Reason.MALFORMED_REQUEST


@pytest.mark.parametrize("method", ["GET", b"DELETE", "PROPFIND", "M-SEARCH", "VERSION-CONTROL"])
def test_unknown_methods_are_methods(method):
    assert read(b"/", method=method).method == (method if isinstance(method, str) else method.decode())


@pytest.mark.parametrize(("scheme", "name"), [("https", "https"), (b"HTTP", "http"), ("ws", "http"), ("wss", "https")])
def test_schemes(scheme, name):
    assert read(b"/", scheme=scheme).scheme == name


@pytest.mark.parametrize("scheme", ["", "ftp", "https ", "https,http", "javascript", b"\xff"])
def test_other_schemes_are_malformed(scheme):
    with pytest.raises(Refused) as refused:
        read(b"/", scheme=scheme)
    assert refused.value.reason is Reason.MALFORMED_REQUEST


def test_an_ipv4_address_in_ipv6_clothes_is_the_ipv4_address():
    assert read(b"/", client=ip_address("::ffff:10.0.0.1")).client == ip_address("10.0.0.1")
    assert read(b"/", client=ip_address("::1")).client == ip_address("::1")


def test_a_target_beyond_the_limit_is_malformed():
    assert read(b"/" + b"a" * (MAX_URL_BYTES - 1)).segments
    with pytest.raises(Refused) as refused:
        read(b"/" + b"a" * MAX_URL_BYTES)
    assert refused.value.reason is Reason.MALFORMED_REQUEST


@pytest.mark.parametrize(
    "piece", [b"/%c3%a9", b"/\xc3\xa9", b"/a%20", b"/", b";", b"%2f", b"%25", b"/%2f", b"/;"], ids=lambda piece: piece.decode()
)
def test_a_path_of_endless_pieces_is_refused_before_it_is_read(piece):
    """CVE-2026-73547: each segment and each opaque sequence is looked at by itself; 8 KiB of them took a core 60 ms."""
    assert read(b"/a" + piece * 100).segments
    with pytest.raises(Refused) as refused:
        read(b"/a" + piece * 300)
    assert refused.value.reason is Reason.MALFORMED_REQUEST


def test_absolute_urls_are_taken_apart():
    request = canonical_url("GET", "https://Example.com:8443/a/b?c=d", CLIENT)
    assert (request.scheme, request.host, request.segments) == ("https", "example.com", ("a", "b"))


@pytest.mark.parametrize(
    "url", ["", "/a", "example.com/a", "https://", "https:///a", "https://a", "https://a?b", "https://u:p@a/", "https://a/\ud800"]
)
def test_urls_that_are_not_absolute_or_have_no_path_are_refused(url):
    with pytest.raises(Refused):
        canonical_url("GET", url, CLIENT)


def encoded(segments):
    """A path that reads as these segments: everything escaped but what stayed opaque."""
    return ("/" + "/".join(quote(segment, safe="%;") for segment in segments)).encode()


anything = st.binary(max_size=40) | strategies.targets()


@settings(max_examples=500, deadline=None)
@given(
    st.binary(max_size=8) | st.text(max_size=8), st.binary(max_size=8) | st.text(max_size=8), st.binary() | st.text(), anything
)
@example(b"GET", b"https", b"example.com", b"/" + b"%25" * 2000)
def test_nothing_but_refused_ever_comes_out(method, scheme, host, target):
    for try_method, try_scheme, try_host in [(method, scheme, host), ("GET", "https", host), (method, "https", "example.com")]:
        try:
            canonical(try_method, try_scheme, try_host, target, CLIENT)
            reason = None
        except Refused as refused:
            reason = refused.reason
        assert reason in {None, Reason.MALFORMED_REQUEST, Reason.AMBIGUOUS_REQUEST}


@settings(max_examples=500, deadline=None)
@given(st.lists(st.sampled_from((*strategies.TAME, *strategies.AMBIGUOUS, "%25ä", "x%41")), max_size=5))
def test_canonical_is_idempotent_and_decodes_exactly_once(parts):
    request = read(("/" + "/".join(parts)).encode())
    again = read(encoded(request.segments)) if request.segments else request
    assert (again.segments, again.exceptions, again.host) == (request.segments, request.exceptions, request.host)
    for segment in request.segments:
        assert "/" not in segment
        # What decoding again would change is only what stayed opaque, and that is named.
        assert all(f"%{rest[:2]}" in request.exceptions for rest in segment.split("%")[1:])
    assert (";" in request.exceptions) == any(";" in segment for segment in request.segments)
    assert ("//" in request.exceptions) == ("" in request.segments[:-1])


def outcome(refusals, reading):
    """What a reading comes to: its value, or the reason of its refusal."""
    try:
        return reading()
    except refusals as refusal:
        return str(refusal)


@settings(max_examples=500, deadline=None)
@given(anything | st.binary(max_size=30).map(lambda tail: b"/" + tail))
def test_the_reference_reads_the_same(target):
    expected = outcome(reference.Refusal, lambda: reference.read("GET", "https", "example.com", target, "192.0.2.1"))
    request = outcome(Refused, lambda: read(target))
    if isinstance(expected, str):
        assert request == expected
    else:
        assert (list(request.segments), request.exceptions) == (expected.segments, expected.exceptions)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="aB9-_.:[]x@ %", max_size=12) | st.sampled_from(("example.com", "[::1]:1", "a.b.")))
def test_the_reference_reads_the_same_host(host):
    assert outcome(Refused, lambda: canonical_host(host)) == outcome(reference.Refusal, lambda: reference.read_host(host))
