"""What each dialect reads, and what it never reads."""

import pytest

from sidecar.contract import STATUS, Reason
from sidecar.dialects import Malformed, Question, envoy, forwarded, nginx
from sidecar.dialects.routes import NOWHERE, ROUTES, route
from sidecar.http.head import EMPTY, Head, Names, Slot, receive

FORWARDED = {
    "X-Forwarded-Method": "POST",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "orders.example.com",
    "X-Forwarded-Uri": "/orders/1?x=y",
    "X-Forwarded-For": "198.51.100.7",
}
NGINX = {
    "X-Original-Method": "POST",
    "X-Original-URL": "https://orders.example.com/orders/1?x=y",
    "X-Forwarded-For": "198.51.100.7",
}
ENVOY = {"Host": "orders.example.com", "X-Forwarded-Proto": "https", "X-Forwarded-For": "198.51.100.7"}
EXPECTED = Question(b"POST", b"https", b"orders.example.com", b"/orders/1?x=y", b"198.51.100.7")
SPOOFS = {
    "X-Forwarded-Uri": "/public",
    "X-Forwarded-Method": "GET",
    "X-Forwarded-Host": "other.example.com",
    "X-Original-URL": "https://other.example.com/public",
    "X-Original-URI": "/public",
    "X-Original-Method": "GET",
    "X-Rewrite-URL": "/public",
    "Forwarded": "for=10.0.0.1;host=other.example.com;proto=http",
    "X-Real-Ip": "10.0.0.1",
    "Host": "other.example.com",
}


def head(url: str, method: str, *headers: dict[str, str]) -> Head:
    found: Head = EMPTY.copy()
    found[Slot.URL], found[Slot.METHOD] = url.encode(), method.encode()
    names = Names()
    for name, value in {name.lower(): (name, value) for each in headers for name, value in each.items()}.values():
        receive(found, names, name.encode(), value.encode())
    return found


def test_each_reads_its_own():
    assert forwarded.question(head("/forward-auth/caddy?x=y", "GET", FORWARDED)) == EXPECTED
    assert nginx.question(head("/forward-auth/nginx", "GET", NGINX)) == EXPECTED
    assert envoy.question(head("/forward-auth/envoy/orders/1?x=y", "POST", ENVOY)) == EXPECTED


def test_none_reads_what_others_do():
    """CVE-2026-40575, CVE-2026-76835, CVE-2026-33495: a header that the client wrote was believed."""
    assert forwarded.question(head("/forward-auth/traefik", "GET", SPOOFS, FORWARDED)) == EXPECTED
    assert nginx.question(head("/forward-auth/nginx", "GET", SPOOFS, NGINX)) == EXPECTED
    assert envoy.question(head("/forward-auth/envoy/orders/1?x=y", "POST", SPOOFS, ENVOY)) == EXPECTED


@pytest.mark.parametrize(
    ("dialect", "url", "headers"),
    [(forwarded, "/forward-auth", FORWARDED), (nginx, "/forward-auth/nginx", NGINX), (envoy, "/forward-auth/envoy/", ENVOY)],
)
def test_everything_is_required(dialect, url, headers):
    for name in headers:
        without = {other: value for other, value in headers.items() if other != name}
        for others in (without, without | {name: ""}, without | {name: " \t"}):
            with pytest.raises(Malformed):
                dialect.question(head(url, "GET", others))


@pytest.mark.parametrize(
    "url",
    [
        "/orders/1",
        "orders.example.com/orders/1",
        "https:/orders.example.com/x",
        "https://orders.example.com",
        "https:///x",
        "://a/x",
        "https://a?b",
    ],
)
def test_nginx_needs_an_absolute_url(url):
    with pytest.raises(Malformed):
        nginx.question(head("/forward-auth/nginx", "GET", NGINX | {"X-Original-URL": url}))


@pytest.mark.parametrize("host", ["orders.example.com?", "orders.example.com#", "me@orders.example.com", "orders.example.com\\x"])
def test_a_host_cannot_move_the_path(host):
    """nginx lets a client's `Host` contain `?`, `#`, `@` and a backslash."""
    question = nginx.question(head("/forward-auth/nginx", "GET", NGINX | {"X-Original-URL": f"https://{host}/admin"}))
    assert (question.host, question.target) == (host.encode(), b"/admin")


@pytest.mark.parametrize("url", ["/forward-auth/envoy", "/forward-auth/envoy?x", "/forward-auth/envoyorders"])
def test_envoy_needs_a_path(url):
    assert route(url.encode()) is NOWHERE
    with pytest.raises(Malformed):
        envoy.question(head(url, "GET", ENVOY))


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("/forward-auth", "/forward-auth"),
        ("/forward-auth?x=y", "/forward-auth"),
        ("/forward-auth/traefik", "/forward-auth/traefik"),
        ("/forward-auth/caddy?a/b", "/forward-auth/caddy"),
        ("/forward-auth/haproxy", "/forward-auth/haproxy"),
        ("/forward-auth/nginx", "/forward-auth/nginx"),
        ("/forward-auth/nginx/refusal", "/forward-auth/nginx/refusal"),
        ("/forward-auth/envoy/", "/forward-auth/envoy"),
        ("/forward-auth/envoy//x", "/forward-auth/envoy"),
        ("/forward-auth/envoy/forward-auth/nginx", "/forward-auth/envoy"),
    ],
)
def test_routes(url, name):
    assert route(url.encode()).name == name


@pytest.mark.parametrize(
    "url", ["", "/", "/forward-auth/", "/forward-auth/nginx/", "/FORWARD-AUTH", "/healthz", "http://x/forward-auth", "*"]
)
def test_all_else_leads_nowhere(url):
    assert route(url.encode()) is NOWHERE


def test_nginx_hears_only_what_it_knows():
    for each in ROUTES:
        statuses = set(each.statuses.values())
        assert set(each.statuses) == set(Reason)
        assert statuses <= ({401, 403, 503} if each.name.endswith("nginx") else {400, 401, 403, 404, 429, 503})
    assert route(b"/forward-auth/nginx").statuses[Reason.MALFORMED_REQUEST] == 403
    assert route(b"/forward-auth/traefik").statuses is STATUS
