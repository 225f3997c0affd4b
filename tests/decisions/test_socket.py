"""The sidecar over a socket against the reference evaluator: generated policies, principals and requests, in every dialect.

The principal is made real first: rows in the replica, and a signed token or an API key in the request.
"""

import asyncio
import json
import socket
import threading
from dataclasses import replace
from hashlib import sha256
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidecar.http.listener import Listener
from sidecar.http.protocol import CheckProtocol
from sidecar.policy.model import ANONYMOUS, Kind
from sidecar.replica.state import State
from tests.decisions import reference, strategies
from tests.protocol.world import Reply, World, replies, rows, token, uuid

APPLICATION = uuid(900)
ORGS = {slug: uuid(901 + number) for number, slug in enumerate(strategies.ORGS)}
PLACES = [(org, name) for org in ORGS for name in strategies.NAMES]
ROLES = {place: uuid(910 + number) for number, place in enumerate(PLACES)}
GROUPS = {place: uuid(930 + number) for number, place in enumerate(PLACES)}
STATUSES = {"missing_credentials": 401, "step_up_required": 401, "malformed_request": 400, "ambiguous_request": 400}
LONG = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))


class Sidecar:
    """A check listener on a free port of the loopback interface; its loop turns in a thread."""

    def __init__(self):
        self.world = World(login_url="")
        self.world.replica.state = State("epoch", 0)
        self.world.change(*furniture())
        self.numbers = count(10_000)
        self.loop = asyncio.new_event_loop()
        listener = Listener(self.world.check, self.world.replica, self.world.trusted.admits, self.world.relay)
        self.server = self.loop.run_until_complete(self.loop.create_server(lambda: CheckProtocol(listener), "127.0.0.1", 0))
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()

    def close(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.server.close()
        self.loop.run_until_complete(self.server.wait_closed())
        self.loop.close()

    def ask(self, request: bytes, times: int) -> list[Reply]:
        """The answers to the same request, pipelined `times` times on one connection."""
        with socket.create_connection(self.server.sockets[0].getsockname(), timeout=10) as connection:
            connection.sendall(request * times)
            connection.shutdown(socket.SHUT_WR)
            data = b"".join(iter(lambda: connection.recv(65536), b""))
        return replies(data, head=request.startswith(b"HEAD "))

    def become(self, principal, now):
        """Rows that make `principal` what it is; the principal with its real ids, and the headers that prove it."""
        if principal.kind is Kind.ANONYMOUS:
            return ANONYMOUS, {}
        profile, membership = uuid(next(self.numbers)), uuid(next(self.numbers))
        slug, org = principal.org_slug, ORGS[principal.org_slug]
        labels = {name: value if isinstance(value, str) else json.dumps(value) for name, value in principal.labels.items()}
        real = replace(principal, sub=profile, org_id=org, labels=labels)
        person = {"id": profile, "kind": "user", "status": "active", "email": principal.email or None, "not_before": None}
        made = [
            ("profiles", person | {"labels": labels}),
            ("memberships", {"id": membership, "org_id": org, "profile_id": profile}),
            *(("membership_roles", {"membership_id": membership, "role_id": ROLES[slug, name]}) for name in principal.roles),
            *(("membership_groups", {"membership_id": membership, "group_id": GROUPS[slug, name]}) for name in principal.groups),
            *(("grants", self.grant(org, profile, membership, name)) for name in principal.entitlements),
        ]
        if principal.kind is Kind.SESSION:
            real = replace(real, scopes=frozenset(), session_id=principal.session_id or "s")
            claims = {"sub": profile, "org": org, "sid": real.session_id, "iat": int(now) - 10, "exp": int(now) + 300}
            login = {"amr": sorted(real.amr), "acr": real.acr, "auth_time": real.auth_time}
            proof = {"Authorization": f"Bearer {token(**claims, **login)}"}
        else:
            key = f"cak_{profile.replace('-', '')}_{'d' * 64}"
            owner = {"id": key[4:36], "org_id": org, "profile_id": profile, "sha256": sha256(key.encode()).hexdigest()}
            given = {"scopes": sorted(principal.scopes), "entitlements": None, "expires_at": None, "revoked": False}
            made.append(("api_keys", owner | given))
            proof = {"X-Api-Key": key}
        self.world.change(*((relation, "u", row) for relation, row in made))
        return real, proof

    def grant(self, org, profile, membership, name):
        """An entitlement, by the person or by the membership."""
        number = next(self.numbers)
        kind, subject = (("profile", profile), ("membership", membership))[number % 2]
        subject = {"subject_kind": kind, "subject_id": subject}
        return {"id": uuid(number), "org_id": org, "entitlement": name, "expires_at": None, **subject}


def furniture():
    """What stands in every example: orgs with roles and groups, the signing key, the application and its hosts."""
    yield from (("orgs", "u", {"id": id_, "slug": slug, "status": "active"}) for slug, id_ in ORGS.items())
    yield from (("roles", "u", {"id": id_, "org_id": ORGS[org], "slug": name}) for (org, name), id_ in ROLES.items())
    for (org, name), id_ in GROUPS.items():
        yield "groups", "u", {"id": id_, "org_id": ORGS[org], "slug": name, "parent_id": None}
    yield from (("signing_keys", "u", row) for row in rows()["signing_keys"])
    yield "applications", "u", {"id": APPLICATION, "slug": "it", "entitlement_prefixes": [], "assertions": False}
    yield from (("application_hosts", "u", {"host": host, "application_id": APPLICATION}) for host in strategies.SERVED)


def forwarded(method, scheme, host, target, client):
    """The question as Traefik and Caddy put it."""
    asked = {"Method": method, "Proto": scheme, "Host": host, "Uri": target, "For": client}
    return "GET /forward-auth/traefik HTTP/1.1", {"Host": "auth"} | {
        f"X-Forwarded-{name}": value for name, value in asked.items()
    }


def nginx(method, scheme, host, target, client):
    """The question as nginx puts it."""
    asked = {"X-Original-Method": method, "X-Original-URL": f"{scheme}://{host}{target}", "X-Forwarded-For": client}
    return "GET /forward-auth/nginx HTTP/1.1", {"Host": "auth"} | asked


def envoy(method, scheme, host, target, client):
    """The question as Envoy puts it."""
    line = f"{method} /forward-auth/envoy{target} HTTP/1.1"
    return line, {"Host": host, "X-Forwarded-Proto": scheme, "X-Forwarded-For": client}


def as_bytes(dialect, question, proof):
    """The request. Text goes out as UTF-8, so a target that is not, given as bytes, is smuggled through `surrogateescape`."""
    method, scheme, host, target, client = question
    line, headers = dialect(method, scheme, host, target.decode(errors="surrogateescape"), client)
    return "\r\n".join([line, *(f"{name}: {value}" for name, value in {**headers, **proof}.items()), "", ""]).encode(
        errors="surrogateescape"
    )


def expected(dialect, document, question, principal, now):
    """Status, code and the reference's verdict. A host that no application has is only known once the request could be read."""
    verdict = reference.judge(document, question, principal, now)
    status, code = 200 if verdict.effect == "allow" else STATUSES.get(verdict.reason, 403), verdict.reason
    if code not in {"malformed_request", "ambiguous_request"} or verdict.rule or readable(question):
        host = reference.read(*question).host
        if not any(reference.same_host(served, host) for served in strategies.SERVED):
            status, code = 403, "unknown_host"
    if dialect is nginx and status == 400:
        status = 403
    return status, code, verdict


def readable(question):
    """Whether the reference can read the request at all."""
    try:
        reference.read(*question)
    except reference.Refusal:
        return False
    return True


def unspeakable(dialect, question):
    """Whether an HTTP parser refuses the line that the question stands in, so that nobody judges it: a denial by another name."""
    method, _, _, target, _ = question
    if dialect is envoy:
        return method not in {*strategies.METHODS, "PURGE"} or not all(0x20 < byte < 0x7F for byte in target)
    return any((byte < 0x20 and byte != 0x09) or byte == 0x7F for byte in target)


def check_refused_head(dialect, reply):
    assert (reply.status, reply.error) == (403 if dialect is nginx else 400, "malformed_request")


def check(reply, status, code, verdict, principal):
    """Assert that one answer says what the reference says, in every header that a decision fills."""
    assert (reply.status, reply.error) == (status, "" if status == 200 else code)
    if status == 200:
        assert reply.headers["x-forward-auth-reason"] == verdict.reason
        assert json.loads(reply.headers["x-policy-obligations"] or "{}") == verdict.obligations
        assert {name: reply.headers[name] for name in verdict.headers} == verdict.headers
        assert reply.headers["x-user-sub"] == principal.sub
        assert reply.headers["x-session-id"] == principal.session_id
        for name in ("groups", "roles", "entitlements", "scopes"):
            assert reply.headers["x-user-" + name] == ",".join(sorted(getattr(principal, name)))
    if verdict.step_up is not None and code == verdict.reason:
        acr_values, max_age, mfa = verdict.step_up
        challenge = reply.headers["www-authenticate"]
        assert "insufficient_user_authentication" in challenge
        assert (f'acr_values="{" ".join(acr_values)}"' in challenge) == bool(acr_values)
        assert (f"max_age={max_age}" in challenge.replace('"', "")) == (max_age is not None)
        assert ("mfa=true" in challenge) == mfa


@pytest.fixture(scope="module")
def sidecar():
    running = Sidecar()
    yield running
    running.close()


@pytest.mark.parametrize("dialect", [forwarded, nginx, envoy])
def test_the_socket_agrees_with_the_reference(sidecar, dialect):
    seen = set()

    @LONG
    @given(strategies.situations())
    def agree(situation):
        document, (method, scheme, host, target, client), principal, now = situation
        question = (method.strip(), scheme, host, target, client)
        sidecar.world.now = now
        principal, proof = sidecar.become(principal, now)
        sidecar.world.change(("policies", "u", {"application_id": APPLICATION, "version": 1, "document": document}))
        request = as_bytes(dialect, question, proof)
        if unspeakable(dialect, question):
            check_refused_head(dialect, sidecar.ask(request, 1)[0])
            return
        status, code, verdict = expected(dialect, document, question, principal, now)
        answers = sidecar.ask(request, 2)
        assert len(answers) == 2
        for reply in answers:
            check(reply, status, code, verdict, principal)
        seen.add(code if status != 200 else "allow")

    agree()
    assert {"allow", "policy_denied"} <= seen


@LONG
@given(st.data())
def test_no_credential_at_all_is_nobody(sidecar, data):
    """What a rule allows to nobody it allows without a credential, and only that."""
    document, question, _, now = data.draw(strategies.situations())
    question = (question[0].strip(), *question[1:])
    sidecar.world.now = now
    sidecar.world.change(("policies", "u", {"application_id": APPLICATION, "version": 1, "document": document}))
    answer = sidecar.ask(as_bytes(forwarded, question, {}), 1)[0]
    if unspeakable(forwarded, question):
        check_refused_head(forwarded, answer)
        return
    status, code, verdict = expected(forwarded, document, question, ANONYMOUS, now)
    check(answer, status, code, verdict, ANONYMOUS)
