"""The guided tour: each step makes real requests through real proxies, draws what happened and says whether it held."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from control_plane.cli.api import Api, ask_sidecar
from control_plane.demo.drawing import Drawing
from control_plane.demo.gate import Answer, Gate, cookie
from control_plane.demo.world import APPLICATION, ENTITLEMENT, HOST, POLICY, World, publish, session_for
from sidecar.contract import REVISION, USER_EMAIL, USER_ENTITLEMENTS, USER_ROLES, USER_SUB, Reason

if TYPE_CHECKING:
    from control_plane.db.embedded import EmbeddedPostgres

BROWSER: Final = (("Accept", "text/html"), ("Sec-Fetch-Mode", "navigate"))
_OPEN: Final = "/public/health"
"""A path that the policy opens to everybody."""
_LOCKED_OUT: Final = "contractors_locked_out"
_LOCK_OUT: Final = f"""\
  - id: no-contractors
    effect: deny
    paths: ["/orders/**"]
    when: {{groups: {{any: [contractors]}}}}
    reason: {_LOCKED_OUT}
"""
_PASSED: Final = HTTPStatus.OK
_UNAVAILABLE: Final = HTTPStatus.SERVICE_UNAVAILABLE
_PASS_SECONDS: Final = 5.0
_SAMPLE_SECONDS: Final = 0.1


@dataclass
class Tour:
    """Everything the steps need. `wrong` gathers the claims that did not hold. `max_staleness` in seconds."""

    api: Api
    gates: Sequence[Gate]
    world: World
    postgres: "EmbeddedPostgres"
    sidecar_ops: str
    max_staleness: float
    drawing: Drawing
    wrong: list[str] = field(default_factory=list)
    _steps: int = 0

    def run(self, login: Sequence[Callable[[], None]], webhooks: Sequence[Callable[[], None]]) -> None:
        """All steps in order. `login`: the chapter after which alice and bob have sessions; `webhooks`: the one on those."""
        for step in (
            self.nobody,
            self.browser,
            *login,
            self.alice,
            self.bob,
            self.grant,
            self.policy,
            self.revoked_session,
            self.revoked_key,
            self.spoofed_path,
            self.spoofed_name,
            *webhooks,
            self.stopped_database,
        ):
            step()

    def nobody(self) -> None:
        """Without a credential: 401."""
        self.head("Nobody", f"GET http://{HOST}/orders/42")
        answers = self.everywhere("nobody", lambda gate: gate.ask())
        self.claim(
            _all_refused(answers, HTTPStatus.UNAUTHORIZED, Reason.MISSING_CREDENTIALS), "without a credential there is no way in"
        )
        self.drawing.fact("www-authenticate", answers[0].headers.get("www-authenticate", ""))

    def browser(self) -> None:
        """A browser that navigates is sent to the login page."""
        self.head("A browser without a session", f"GET http://{HOST}/orders/42  Accept: text/html  Sec-Fetch-Mode: navigate")
        answers = self.everywhere("browser", lambda gate: gate.ask(headers=BROWSER))
        self.claim(
            _all_refused(answers, HTTPStatus.FOUND, Reason.MISSING_CREDENTIALS), "it is sent to log in, and will come back"
        )
        self.drawing.fact("location", answers[0].headers.get("location", ""))

    def alice(self) -> None:
        """Alice's session passes; the application learns who she is."""
        alice = self.world.alice
        self.head("Alice, a clerk", f"GET http://{HOST}/orders/42  Cookie: catalyst_session=…")
        answers = self.everywhere("alice", lambda gate: gate.ask(headers=[cookie(alice.token)]))
        seen = [(a.status, a.received.get(USER_SUB), a.received.get(USER_ENTITLEMENTS)) for a in answers]
        self.claim(
            seen == [(_PASSED, alice.profile, ENTITLEMENT)] * len(answers), "she passes, and the application knows who she is"
        )
        for name in (USER_SUB, USER_EMAIL, USER_ROLES, USER_ENTITLEMENTS, REVISION):
            self.drawing.fact(name, answers[0].received.get(name, ""))

    def bob(self) -> None:
        """Bob's session is good, but he may not; the sidecar says what he lacks."""
        self.head("Bob, who has no such entitlement", f"GET http://{HOST}/orders/42  Cookie: catalyst_session=…")
        answers = self.everywhere("bob", lambda gate: gate.ask(headers=[cookie(self.world.bob.token)]))
        self.claim(_all_refused(answers, HTTPStatus.FORBIDDEN, Reason.POLICY_DENIED), "he is known, and refused")
        for rule in self._explain(self.world.bob.profile):
            self.drawing.fact(f"rule {rule['id']}", "; ".join(unmet["detail"] for unmet in rule["unmet"]))

    def grant(self) -> None:
        """One grant, and bob passes everywhere."""
        self.head("Bob is granted it", f'POST /v1/grants  {{"entitlement": "{ENTITLEMENT}", "subject": bob}}')
        subject = {"kind": "profile", "id": self.world.bob.profile}
        body = {"org": self.world.org, "subject": subject, "entitlement": ENTITLEMENT, "reason": "helps out this week"}
        delays = self.race(lambda: self.api.post("/v1/grants", body), lambda answer: answer.status == _PASSED)
        self.claim(len(delays) == len(self.gates), "he passes at every proxy")

    def policy(self) -> None:
        """A new policy version takes it away again, for a reason of its own."""
        self.head("The policy changes", f"POST /v1/applications/{APPLICATION}/policy/publish  (deny group contractors)")
        document = POLICY.read_text(encoding="utf-8").replace("tests:\n", _LOCK_OUT + "tests:\n")
        delays = self.race(
            lambda: publish(self.api, document, "Contractors are out"), lambda answer: answer.reason == _LOCKED_OUT
        )
        self.claim(len(delays) == len(self.gates), f"he is refused again: {_LOCKED_OUT}")

    def revoked_session(self) -> None:
        """A revoked session is refused although its token has not expired."""
        self.head("Alice's session is revoked", f"POST /v1/sessions/{self.world.alice.session}/revoke")
        delays = self.race(
            lambda: self.api.post(f"/v1/sessions/{self.world.alice.session}/revoke"),
            lambda answer: (answer.status, answer.reason) == (HTTPStatus.UNAUTHORIZED, Reason.REVOKED_SESSION),
            self.world.alice.token,
        )
        self.claim(
            len(delays) == len(self.gates),
            f"her token is signed and not expired, and refused all the same: {Reason.REVOKED_SESSION}",
        )

    def revoked_key(self) -> None:
        """An API key works, is revoked, and does not."""
        key = [("X-Api-Key", self.world.key)]
        self.head("An API key is revoked", f"GET http://{HOST}/orders/42  X-Api-Key: {self.world.key[:12]}…")
        before = self.everywhere("service", lambda gate: gate.ask(headers=key))
        revision = self.api.call("POST", f"/v1/api-keys/{self.world.key_id}/revoke", json={}).headers[REVISION]
        # The answer names the revision; asking for it makes the wait explicit instead of hoping.
        after = self.everywhere("service", lambda gate: gate.ask(headers=[*key, ("X-Catalyst-Min-Revision", revision)]))
        self.claim(
            all(a.status == _PASSED for a in before) and _all_refused(after, HTTPStatus.UNAUTHORIZED, Reason.INVALID_API_KEY),
            f"it worked; a request that asks for revision {revision} no longer passes",
        )

    def spoofed_path(self) -> None:
        """A client claims to ask for a public path."""
        self.head("A lie about the path", "GET /orders/42  X-Forwarded-Uri: /public/health  X-Original-URL: /public/health")
        lie = [("X-Forwarded-Uri", _OPEN), ("X-Original-URL", f"http://{HOST}{_OPEN}")]
        honest = [gate.ask(path=_OPEN).status for gate in self.gates]
        answers = self.everywhere("mallory", lambda gate: gate.ask(headers=lie))
        self.claim(
            honest == [_PASSED] * len(self.gates) and _all_refused(answers, HTTPStatus.UNAUTHORIZED, Reason.MISSING_CREDENTIALS),
            "/public/health is open to all, but what a client writes into proxies' headers is not believed",
        )

    def spoofed_name(self) -> None:
        """A client writes identity headers of its own."""
        bob = cookie(self.world.bob.token)
        self.head("A lie about the name", "GET /public/health  X-User-Sub: root   and   X_User_Sub: root")
        plain = self.everywhere("bob", lambda gate: gate.ask(path=_OPEN, headers=[bob, ("X-User-Sub", "root")]))
        alias = self.everywhere("bob", lambda gate: gate.ask(path=_OPEN, headers=[bob, ("X_User_Sub", "root")]))
        named = [answer.received.get(USER_SUB) for answer in plain]
        self.claim(
            named == [self.world.bob.profile] * len(plain) and all(a.status == HTTPStatus.BAD_REQUEST for a in alias),
            "the one is replaced by the truth, the other, which many applications read as the same, is refused",
        )

    def stopped_database(self) -> None:
        """PostgreSQL stops: decisions go on from memory, then refuse honestly, then catch up."""
        self.head("PostgreSQL is stopped", f"GET {_OPEN}, every {_SAMPLE_SECONDS * 1000:.0f} ms")
        stopping = threading.Thread(target=self.postgres.stop)
        started = time.monotonic()
        stopping.start()
        down = self._sample(lambda statuses: statuses[-3:] == [_UNAVAILABLE] * 3, self.max_staleness + 10)
        waited = time.monotonic() - started
        stopping.join()
        for gate, statuses in down.items():
            self.drawing.line(gate, statuses)
        served = all(statuses[:3] == [_PASSED] * 3 and statuses[-1] == _UNAVAILABLE for statuses in down.values())
        reason = self.gates[0].ask(path=_OPEN).reason
        self.claim(
            served and reason == Reason.STALE,
            f"it goes on from memory; {self.max_staleness:g} s without proof of freshness, and it says {Reason.STALE} "
            f"({waited:.1f} s in all)",
        )
        self.head("PostgreSQL is back", "(and alice gets another session)")
        self.postgres.start()
        up = self._sample(lambda statuses: statuses[-3:] == [_PASSED] * 3, 20)
        for gate, statuses in up.items():
            self.drawing.line(gate, statuses)
        self._session_for_alice()
        answers = self.everywhere("alice", lambda gate: gate.ask(headers=[cookie(self.world.alice.token)]))
        self.claim(all(a.status == _PASSED for a in answers), "it has caught up, and decides again")

    # --- what the steps share -----------------------------------------------------------------------------------------------

    def head(self, title: str, request: str) -> None:
        """A step begins."""
        self._steps += 1
        self.drawing.step(self._steps, title, request)

    def claim(self, holds: bool, claim: str) -> None:
        """Whether what the step shows was seen."""
        self.drawing.verdict(holds, claim)
        if not holds:
            self.wrong.append(f"step {self._steps}: {claim}")

    def everywhere(self, who: str, ask: Callable[[Gate], Answer]) -> list[Answer]:
        """The same request at every gate, drawn."""
        answers = [ask(gate) for gate in self.gates]
        for gate, answer in zip(self.gates, answers, strict=True):
            self.drawing.way(who, gate.name, answer)
        return answers

    def race(self, change: Callable[[], Any], arrived: Callable[[Answer], bool], token: str = "") -> dict[str, float]:
        """Make a change while every gate is asked without pause: seconds from its commit to the first answer that shows it."""
        headers = [cookie(token or self.world.bob.token)]
        first: dict[str, Answer] = {}
        deadline = time.monotonic() + _PASS_SECONDS

        def poll(gate: Gate) -> None:
            while time.monotonic() < deadline:
                answer = gate.ask(headers=headers)
                if arrived(answer):
                    first[gate.name] = answer
                    break
            gate.close()

        pollers = [threading.Thread(target=poll, args=(gate.another(),)) for gate in self.gates]
        for poller in pollers:
            poller.start()
        change()
        committed = datetime.fromisoformat(self.api.get("/v1/revision")["committed_at"]).timestamp()
        for poller in pollers:
            poller.join()
        delays = {gate.name: first[gate.name].at - committed for gate in self.gates if gate.name in first}
        if delays:
            self.drawing.bars(delays)
        return delays

    def _sample(self, enough: Callable[[list[int]], bool], seconds: float) -> dict[str, list[int]]:
        """Ask every gate in turn until `enough(statuses)` at each, or for `seconds`."""
        statuses: dict[str, list[int]] = {gate.name: [] for gate in self.gates}
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not all(enough(seen) for seen in statuses.values()):
            for gate in self.gates:
                statuses[gate.name].append(gate.ask(path=_OPEN).status)
            time.sleep(_SAMPLE_SECONDS)
        return statuses

    def _explain(self, profile: str) -> list[dict[str, Any]]:
        """The sidecar's own account: the rules about this path that did not match, with what each misses."""
        question = {
            "method": "GET",
            "url": f"http://{HOST}/orders/42",
            "principal": {"profile": profile, "org": self.world.org},
        }
        answer = ask_sidecar(self.sidecar_ops.removeprefix("http://"), "/explain", question)
        return [rule for rule in answer["explanation"]["rules"] if rule["path"] and rule["unmet"]]

    def _session_for_alice(self) -> None:
        """The control plane's connections have to come back too."""
        deadline = time.monotonic() + _PASS_SECONDS
        while True:
            try:
                return session_for(self.api, self.world.alice, self.world.org)
            except Exception:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_SAMPLE_SECONDS)


def _all_refused(answers: Sequence[Answer], status: int, reason: str) -> bool:
    """Whether every gate refused so."""
    return all((answer.status, answer.reason) == (status, reason) for answer in answers)
