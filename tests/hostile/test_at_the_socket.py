"""Every class of attack that broke servers like this one, in every dialect, at the sidecar's own socket."""

import json
import os
import socket
import sys
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from hashlib import sha256
from hmac import new as hmac
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import OKPAlgorithm

from control_plane.cli.processes import Process, answers, free_port
from sidecar.contract import IDENTITY_HEADERS, MAX_HEAD_BYTES, MAX_HEADERS, MAX_URL_BYTES
from tests.hostile.dialects import DIALECTS, HOST, ask, lines, new_client, question, raw, refused
from tests.proxies.realm import LOGIN, Realm, cookie
from tests.proxies.wire import Answer, head, read_answer, send

FORWARDED = ("X-Forwarded-Method", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Uri", "X-Forwarded-For")
ORIGINAL = ("X-Original-Method", "X-Original-URL")
ANOTHER_PLACE = [
    ("X-Forwarded-Uri", "/public/health"),
    ("X-Forwarded-Host", "evil.example.com"),
    ("X-Forwarded-Method", "HEAD"),
    ("X-Original-URL", "http://orders.example.com/public/health"),
    ("X-Original-URI", "/public/health"),
    ("X-Original-Method", "HEAD"),
    ("X-Rewrite-URL", "/public/health"),
    ("Forwarded", "for=10.1.2.3"),
]
NAMED = {
    "traefik": FORWARDED,
    "caddy": FORWARDED,
    "haproxy": FORWARDED,
    "nginx": (*ORIGINAL, "X-Forwarded-For"),
    "envoy": ("X-Forwarded-Proto", "X-Forwarded-For"),
}

each_dialect = pytest.mark.parametrize("dialect", DIALECTS)


@pytest.fixture
def port(realm: Realm) -> int:
    return realm.sidecar_port


@pytest.fixture(scope="module")
def strangers(realm: Realm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A second sidecar on the same database that trusts only proxies in 10.0.0.0/8: we are strangers to it."""
    check, ops = free_port(), free_port()
    settings = {
        "CATALYST_SIDECAR_LISTEN": f"127.0.0.1:{check}",
        "CATALYST_SIDECAR_OPS_LISTEN": f"127.0.0.1:{ops}",
        "CATALYST_SIDECAR_TRUSTED_PROXIES": "10.0.0.0/8",
    }
    environ = {**realm.stack.settings("catalyst_sidecar"), **settings}
    process = Process("sidecar", [sys.executable, "-m", "sidecar"], tmp_path_factory.mktemp("log") / "log", environ)
    try:
        process.wait_until(lambda: answers(f"127.0.0.1:{ops}"), 20)
        yield check
    finally:
        process.stop()


# --- the question -------------------------------------------------------------------------------------------------------------


@each_dialect
def test_the_world_is_as_the_other_tests_believe(realm: Realm, port: int, dialect: str):
    """Without this, refusals elsewhere could have another cause."""
    assert ask(port, dialect, "/public/health").status == 200
    assert ask(port, dialect, "/orders/42").status == 401
    assert ask(port, dialect, "/orders/42", cookie(realm.token)).status == 200
    assert ask(port, dialect, "/internal/x", client="10.1.2.3").status == 200


@each_dialect
def test_only_the_dialects_own_headers_are_believed(port: int, dialect: str):
    """CVE-2026-40575, CVE-2026-33495, CVE-2026-35051: a client's own X-Forwarded-Uri and its kin."""
    theirs = [(name, value) for name, value in ANOTHER_PLACE if name not in NAMED[dialect]]
    answer = ask(port, dialect, "/orders/42", *theirs)
    assert (answer.status, answer.reason) == (401, "missing_credentials")


@each_dialect
def test_a_named_header_given_twice_or_not_at_all_is_refused(port: int, dialect: str):
    """CVE-2026-40575: which of two is meant is not guessed, and nothing stands in for what is missing."""
    whole = question(dialect, "/public/health")
    for name in NAMED[dialect]:
        line = next(line for line in whole.split(b"\r\n") if line.lower().startswith(name.lower().encode() + b":"))
        for changed in (
            whole.replace(line + b"\r\n", b""),
            whole.replace(line, name.encode() + b":"),
            whole.replace(line, line + b"\r\n" + line),
            whole.replace(line, line + b"\r\n" + name.lower().encode() + b": x"),
        ):
            answer = send(port, changed)
            assert refused(answer, "malformed_request"), changed
            assert answer.status == (403 if dialect == "nginx" else 400)


@each_dialect
def test_strangers_are_refused_before_they_are_heard(strangers: int, realm: Realm, dialect: str):
    """CVE-2026-76835: a fix for spoofed headers was undone by trusting every peer."""
    for headers in ([], [cookie(realm.token)], [("X-Forwarded-For", "10.1.2.3")]):
        answer = ask(strangers, dialect, "/public/health", *headers)
        assert (answer.status, answer.reason) == (403, "untrusted_peer")


def test_nobody_is_trusted_by_default(realm: Realm, tmp_path: Path):
    """CVE-2026-76835: listening beyond this machine without naming the proxies is no configuration."""
    environ = {**realm.stack.settings("catalyst_sidecar"), "CATALYST_SIDECAR_LISTEN": f"0.0.0.0:{free_port()}"}
    environ.pop("CATALYST_SIDECAR_TRUSTED_PROXIES", None)
    process = Process("sidecar", [sys.executable, "-m", "sidecar"], tmp_path / "log", environ)
    deadline = time.monotonic() + 20
    while process.exit_code is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.stop()
    assert process.exit_code == 2
    assert "CATALYST_SIDECAR_TRUSTED_PROXIES" in (tmp_path / "log").read_text()


@each_dialect
def test_the_left_most_forwarded_address_is_a_claim(port: int, dialect: str):
    """CVE-2024-47070 and every server that reads from the left: the rule for /internal asks for 10.0.0.0/8."""
    for claim in ("10.1.2.3, 192.0.2.7", "10.1.2.3,192.0.2.7,127.0.0.1", "10.1.2.3, ::ffff:192.0.2.7", "192.0.2.7, ::1"):
        assert ask(port, dialect, "/internal/x", client=claim).status == 401, claim


@each_dialect
@pytest.mark.parametrize("line", lines("forwarded_for.txt"))
def test_an_address_that_cannot_be_read_is_a_refusal(port: int, dialect: str, line: str):
    """CVE-2024-47070: an unparsable X-Forwarded-For skipped a stage."""
    assert refused(ask(port, dialect, "/public/health", client=raw(line).decode("latin-1")), "malformed_request")


@each_dialect
@pytest.mark.parametrize("mark", "_.!#$%&'*+^`|~")
def test_look_alikes_of_identity_headers_are_refused(port: int, dialect: str, mark: str):
    """CVE-2025-64484, GHSA-5m6w-wvh7-57vm, CVE-2025-48865, CVE-2026-88879."""
    for name in IDENTITY_HEADERS:
        for alias in (name.replace("-", mark), name.title().replace("-", mark, 1), mark.join(name.rsplit("-", 1))):
            answer = ask(port, dialect, "/public/health", (alias, "root"))
            assert refused(answer, "header_alias"), alias
    assert refused(ask(port, dialect, "/public/health", (f"x{mark}tier", "gold")), "header_alias")


@each_dialect
def test_every_identity_header_is_on_every_allow(realm: Realm, port: int, dialect: str):
    """CVE-2026-30851: one that was left out let the client's own through."""
    for headers in ([], [cookie(realm.token)], [("X-Api-Key", realm.key)]):
        answer = ask(port, dialect, "/public/health", *headers)
        assert answer.status == 200
        names = [line.partition(b":")[0].decode().lower() for line in answer.head.split(b"\r\n")[1:]]
        for name in (*IDENTITY_HEADERS, "x-tier"):
            assert names.count(name) == 1, name


@each_dialect
@pytest.mark.parametrize("line", lines("paths.txt"))
def test_a_path_with_two_readings_is_refused(realm: Realm, port: int, dialect: str, line: str):
    """CVE-2026-33494, CVE-2026-48020, CVE-2025-66490, CVE-2021-32779: for nobody and for alice, with one reason."""
    for headers in ([], [cookie(realm.token)]):
        answer = ask(port, dialect, raw(line), *headers, client=new_client())
        # In nginx's one header a target without its slash runs into the host.
        assert refused(answer, "ambiguous_request", "malformed_request", *(["unknown_host"] if dialect == "nginx" else [])), (
            answer
        )


@each_dialect
@pytest.mark.parametrize("line", lines("login_paths.txt"))
def test_a_path_of_the_login_is_never_allowed(realm: Realm, port: int, dialect: str, line: str):
    """Not for nobody, nor for alice; what the control plane does not answer is refused."""
    for headers in ([], [cookie(realm.token)], [("Cookie", f"catalyst_refresh={realm.token}; catalyst_binding=%00")]):
        answer = ask(port, dialect, raw(line), *headers, client=new_client())
        assert answer.status in {0, 303, 307, 400, 401, 403, 404, 503}, answer
        assert b"\r\nx-user-sub" not in answer.head.lower()
        assert realm.token.encode() not in answer.head
        assert "evil.example.com" not in urlsplit(answer.headers.get("location", "")).netloc


@each_dialect
@pytest.mark.parametrize("line", lines("queries.txt"))
def test_rules_see_the_path_alone(port: int, dialect: str, line: str):
    """CVE-2025-54576: a rule was matched against the query, or against a part of a segment."""
    answer = ask(port, dialect, line)
    assert (answer.status, answer.reason) == (401, "missing_credentials")


@each_dialect
@pytest.mark.parametrize("line", lines("bypasses.txt"))
def test_there_is_no_magic_way_in(port: int, dialect: str, line: str):
    """CVE-2026-34457: the user agent of a health check was let through."""
    method, path, header = line.split(" ", 2)
    name, _, value = header.partition(": ")
    if name in NAMED[dialect]:
        return
    answer = ask(port, dialect, path, (name, value), method=method)
    assert refused(answer)
    assert answer.status in {0, 400, 401, 403}


@each_dialect
def test_hosts_are_exact(port: int, dialect: str):
    """CVE-2026-35051: a host that only looks like the application's."""
    for host in ("evil.example.com", "orders.example.com.evil.com", "xorders.example.com", "example.com", "orders.example.co"):
        answer = ask(port, dialect, "/public/health", host=host)
        assert (answer.status, answer.reason) == (403, "unknown_host"), host
    for host in (
        "user@orders.example.com",
        "orders.example.com:x",
        "orders.example.com:80:80",
        "orders.example.com/x",
        "a b",
        "ordérs.example.com\x80",
    ):
        assert refused(ask(port, dialect, "/public/health", host=host)), host
    for host in ("ORDERS.example.com", "orders.example.com.", "orders.example.com:8443"):
        assert ask(port, dialect, "/public/health", host=host).status == 200, host


# --- credentials ----------------------------------------------------------------------------------------------------------------


@each_dialect
@pytest.mark.parametrize("line", lines("credentials.txt"))
def test_a_bad_credential_is_never_nobody(realm: Realm, port: int, dialect: str, line: str):
    """CVE-2026-25748, CVE-2021-32637: a bad cookie was answered 200, an error was let through."""
    name, _, value = line.format(token=realm.token, key=realm.key).partition(":")
    for path in ("/public/health", "/orders/42"):
        answer = ask(port, dialect, path, (name, value.strip()), client=new_client())
        assert answer.status in {400, 401, 403}, answer
        assert answer.reason in {"invalid_token", "invalid_api_key", "malformed_request"}


@each_dialect
def test_the_first_credential_decides(realm: Realm, port: int, dialect: str):
    """CVE-2026-33729: a bad credential must not fall through to a good one."""
    bad_then_good = [("X-Api-Key", "cak_bad"), ("Authorization", f"Bearer {realm.token}"), cookie(realm.token)]
    assert refused(ask(port, dialect, "/orders/42", *bad_then_good, client=new_client()), "invalid_api_key")
    assert refused(ask(port, dialect, "/orders/42", *bad_then_good[1:2], *bad_then_good[1:2]), "malformed_request")
    assert refused(
        ask(port, dialect, "/orders/42", ("Authorization", "Bearer x"), cookie(realm.token), client=new_client()), "invalid_token"
    )
    both = [("X-Api-Key", realm.key), ("Authorization", f"Key {realm.key}")]
    assert refused(ask(port, dialect, "/orders/42", *both), "malformed_request")


def forged(realm: Realm) -> dict[str, str]:
    """Tokens that somebody without the signing key can make out of a good one and the public keys."""
    header, payload, signature = realm.token.split(".")
    fields, claims = jwt.get_unverified_header(realm.token), jwt.decode(realm.token, options={"verify_signature": False})
    keys = httpx2.get(f"{realm.stack.urls['control']}/.well-known/jwks.json", trust_env=False).json()["keys"]
    public = OKPAlgorithm.from_jwk(json.dumps(next(key for key in keys if key["kid"] == fields["kid"])))
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    bytes_ = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
    mine = Ed25519PrivateKey.generate()
    own_jwk = json.loads(OKPAlgorithm.to_jwk(mine.public_key()))

    def part(value: dict) -> str:
        return urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    def by_hmac(key: bytes, algorithm: str = "HS256") -> str:
        signed = f"{part(fields | {'alg': algorithm})}.{payload}"
        return f"{signed}.{urlsafe_b64encode(hmac(key, signed.encode(), sha256).digest()).decode().rstrip('=')}"

    def by_me(**changes: object) -> str:
        return jwt.encode(claims, mine, "EdDSA", {name: value for name, value in (fields | changes).items() if value is not None})

    return {
        "alg none": f"{part(fields | {'alg': 'none'})}.{payload}.",
        "alg None": f"{part(fields | {'alg': 'None'})}.{payload}.{signature}",
        "no alg": f"{part({'kid': fields['kid'], 'typ': fields['typ']})}.{payload}.{signature}",
        "hmac by pem": by_hmac(pem),
        "hmac by bytes": by_hmac(bytes_),
        "hmac called EdDSA": by_hmac(bytes_, "EdDSA"),
        "es256 named": f"{part(fields | {'alg': 'ES256'})}.{payload}.{signature}",
        "no signature": f"{header}.{payload}.",
        "cut signature": f"{header}.{payload}.{signature[:-4]}",
        "other claims": f"{header}.{part(claims | {'sub': realm.bob})}.{signature}",
        "longer life": f"{header}.{part(claims | {'exp': claims['exp'] + 1})}.{signature}",
        "own key": by_me(),
        "own key in the header": by_me(jwk=own_jwk),
        "own key by jku": by_me(jku="http://127.0.0.1:1/keys"),
        "own key by x5u": by_me(x5u="http://127.0.0.1:1/cert"),
        "own kid": by_me(kid="mine"),
        "path as kid": by_me(kid="../../../../dev/null"),
        "no kid": by_me(kid=None),
        "critical extension": f"{part(fields | {'crit': ['b64'], 'b64': False})}.{payload}.{signature}",
        "typ JWT": f"{part(fields | {'typ': 'JWT'})}.{payload}.{signature}",
        "typ of assertions": f"{part(fields | {'typ': 'decision+jwt'})}.{payload}.{signature}",
        "two headers": f"{header}{header}.{payload}.{signature}",
        "padding": f"{header}.{payload}.{signature}==",
        "bytes that decoders skip": f"{header}.{payload}.{signature[:9]}!{signature[9:]}",
    }


@each_dialect
def test_the_algorithm_is_the_keys_and_not_the_tokens(realm: Realm, port: int, dialect: str):
    """CVE-2026-44699: algorithm confusion, unsigned tokens, keys that the token brings along."""
    for what, token in forged(realm).items():
        answer = ask(port, dialect, "/orders/42", ("Authorization", f"Bearer {token}"), client=new_client())
        assert (answer.status, answer.reason) == (401, "invalid_token"), what


@each_dialect
def test_an_assertion_is_no_session(realm: Realm, port: int, dialect: str):
    """CVE-2026-44699: x-decision-jwt is signed by a sidecar for one application; sent back it proves nothing."""
    assertion = ask(port, dialect, "/orders/42", cookie(realm.token)).headers["x-decision-jwt"]
    answer = ask(port, dialect, "/orders/42", ("Authorization", f"Bearer {assertion}"), client=new_client())
    assert (answer.status, answer.reason) == (401, "invalid_token")


@each_dialect
def test_an_org_named_by_the_client_is_not_believed(realm: Realm, port: int, dialect: str):
    other = realm.api.post("/v1/orgs", {"slug": f"other-{dialect}", "name": "Other"})
    for name in (other["id"], other["slug"], "nowhere", "acme,other", "*"):
        answer = ask(port, dialect, "/orders/42", cookie(realm.token), ("X-Catalyst-Org", name))
        assert (answer.status, answer.reason) == (403, "not_a_member"), name
    assert ask(port, dialect, "/orders/42", cookie(realm.token), ("X-Catalyst-Org", "acme")).status == 200


def test_one_counter_for_all_ways_in(realm: Realm, port: int):
    """tinyauth #555: a limiter that was walked around by another way of sending the same credential."""
    client = new_client()
    ways = [
        ("X-Api-Key", "cak_x"),
        ("Authorization", "Key cak_x"),
        ("Authorization", "Bearer x"),
        ("Cookie", "catalyst_session=x"),
    ]
    statuses = [
        ask(port, DIALECTS[n % len(DIALECTS)], "/orders/42", ways[n % len(ways)], client=client).status for n in range(80)
    ]
    assert statuses[:50] == [401] * 50
    # nginx knows no 429: it is told 403.
    assert set(statuses[-10:]) == {429, 403}
    assert ask(port, "traefik", "/orders/42", cookie(realm.token), client=client).status == 429
    assert ask(port, "traefik", "/orders/42", cookie(realm.token), client=new_client()).status == 200


# --- what is remembered, where browsers are sent, what a request may cost -----------------------------------------------------


@each_dialect
def test_a_kept_answer_belongs_to_its_whole_question(realm: Realm, port: int, dialect: str):
    """CVE-2026-33496, CVE-2026-33729, CVE-2026-55866: an answer was kept under too little of its question."""
    alice = cookie(realm.token)
    for _ in range(3):
        assert ask(port, dialect, "/orders/42", alice).status == 200
        assert ask(port, dialect, "/orders/42").status == 401
        assert ask(port, dialect, "/orders/42", cookie(realm.bobs_token)).status == 403
        assert ask(port, dialect, "/nothing/42", alice).status == 403
        assert ask(port, dialect, "/orders/42", alice, host="evil.example.com").status == 403
        assert ask(port, dialect, "/orders/42", alice, ("X-Catalyst-Org", "nowhere")).status == 403
        assert ask(port, dialect, "/orders/42", alice, ("X_User_Sub", "root")).status in {400, 403}
        assert ask(port, dialect, "/orders/42", alice, ("X-Api-Key", "x"), client=new_client()).status == 401
        assert ask(port, dialect, "/internal/x", client="10.1.2.3").status == 200
        assert ask(port, dialect, "/internal/x", client="192.0.2.7").status == 401
        assert ask(port, dialect, "/public/health").headers["x-user-sub"] == ""
        assert ask(port, dialect, "/public/health", alice).headers["x-user-sub"] == realm.alice
    if dialect != "nginx":
        # The same bytes, cut elsewhere (in nginx's one header there is nowhere to cut).
        assert refused(ask(port, dialect, "/42", alice, host=f"{HOST}/orders"))


def test_a_kept_answer_belongs_to_its_connection(realm: Realm, port: int):
    """One keep-alive connection carries many clients: nothing of the one before is left for the next."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        for dialect in (*DIALECTS, *DIALECTS):
            for headers, status in (([cookie(realm.token)], 200), ([], 401), ([cookie(realm.bobs_token)], 403)):
                connection.sendall(question(dialect, "/orders/42", *headers))
                assert read_answer(connection).status == status


@pytest.mark.parametrize("dialect", ["traefik", "caddy", "haproxy", "envoy"])
@pytest.mark.parametrize(
    "target",
    [
        "/orders/42",
        "/orders/42?next=https://evil.example.com",
        "/orders/42?x=%0d%0aSet-Cookie:%20a=b",
        "/@evil.example.com",
        "/https://evil.example.com/",
        "/orders/42?return_to=https://evil.example.com&x=y",
    ],
)
def test_browsers_come_back_to_the_host_that_was_judged(port: int, dialect: str, target: str):
    """GHSA-qqxw-m5fj-f7gv, GHSA-j7px-6hwj-hpjg, GHSA-5m6c-jp6f-2vcv: open redirects by way of the login page."""
    answer = ask(port, dialect, target, ("Accept", "text/html"), ("Sec-Fetch-Mode", "navigate"))
    if answer.status == 302:
        location = urlsplit(answer.headers["location"])
        assert f"{location.scheme}://{location.netloc}{location.path}" == LOGIN
        ((back,),) = parse_qs(location.query, strict_parsing=True).values()
        assert urlsplit(back).hostname == HOST
        assert b"\r\nset-cookie" not in answer.head.lower()
    else:
        assert answer.status in {400, 401}
    for host in ("evil.example.com", "evil.example.com\\@orders.example.com", "orders.example.com@evil.example.com"):
        assert "location" not in ask(port, dialect, "/orders/42", ("Accept", "text/html"), host=host).headers


@pytest.mark.parametrize("line", lines("heads.txt"))
def test_a_head_with_two_readings_is_refused(port: int, line: str):
    """CVE-2021-32637, request smuggling: framing, folding, doubled hosts, paths of the check listener itself."""
    common = "X-Forwarded-Proto: http\\r\\nX-Forwarded-For: 192.0.2.7\\r\\n"
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(raw(line.replace("{common}", common)))
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while data := connection.recv(65536):
            received += data
    assert b" 200 " not in received


def oversized() -> dict[str, bytes]:
    """Requests that cost more than any real one, in the envoy dialect."""
    good = question("envoy", "/public/health")
    return {
        "head": good.replace(b"\r\n\r\n", b"\r\nX-Long: " + b"a" * MAX_HEAD_BYTES + b"\r\n\r\n"),
        "headers": good.replace(b"\r\n\r\n", b"".join(b"\r\nX-%d: a" % n for n in range(MAX_HEADERS)) + b"\r\n\r\n"),
        "url": question("envoy", "/public/" + "a" * MAX_URL_BYTES),
        "name": good.replace(b"\r\n\r\n", b"\r\n" + b"a" * MAX_HEAD_BYTES + b": a\r\n\r\n"),
        "cookie": question("envoy", "/public/health", ("Cookie", "a=b; " * 8000)),
        "forwarded for": question("envoy", "/public/health", client=", ".join(["127.0.0.1"] * 4000)),
        "body": question("envoy", "/public/health", ("Content-Length", "1000000"), method="POST") + b"a" * 1_000_000,
        "never ends": good[:-4] + b"\r\nX-Long: " + b"a" * 10_000_000,
    }


@pytest.mark.parametrize("what", ["head", "headers", "url", "name", "cookie", "forwarded for", "body", "never ends"])
def test_a_request_that_costs_too_much_is_refused(port: int, what: str):
    """CVE-2026-73547: the parser alone takes 10 MiB of head and 100,000 headers."""
    try:
        answer = send(port, oversized()[what], timeout=5)
    except ConnectionError:
        answer = Answer()
    assert refused(answer)
    assert ask(port, "envoy", "/public/health").status == 200


def test_pipelined_requests_are_judged_one_by_one(realm: Realm, port: int):
    """Request smuggling by way of keep-alive: each answer belongs to its own request."""
    asked = [("/public/health", 200), ("/orders/42", 401), ("/public/../orders/42", 400), ("/public/health", 200)]
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(b"".join(question("traefik", target) for target, _ in asked))
        stream = b""
        while stream.count(b"HTTP/1.1 ") < len(asked) and (data := connection.recv(65536)):
            stream += data
    statuses = [int(part[:3]) for part in stream.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [status for _, status in asked][: len(statuses)]
    assert len(statuses) >= 3
    assert realm.token.encode() not in stream


def test_nothing_that_was_sent_is_in_the_log(realm: Realm, port: int):
    """A credential or a cookie never reaches a log, whatever went wrong with it."""
    canary = f"canary{os.getpid()}"
    for dialect in DIALECTS:
        for header in ("Authorization", "X-Api-Key", "Cookie", "X-Forwarded-For", "X_User_Sub", "X-Catalyst-Org"):
            ask(port, dialect, f"/{canary}/../x", (header, f"Bearer {canary}"), client=new_client())
            ask(port, dialect, f"/orders/{canary}", (header, f"catalyst_session={canary}"), client=new_client())
    send(port, head("GET", f"/{canary}\x01"))
    assert canary not in (realm.stack.data / "logs" / "sidecar.log").read_text()
