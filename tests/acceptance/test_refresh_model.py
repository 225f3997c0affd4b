"""Random lives of sessions against a model of who holds which token and what may happen next.

Time passes by moving what is stored back, in steps of a minute; every limit lies half a minute beside such a step, so that the seconds
which a run takes decide nothing. CATALYST_STATEFUL_SECONDS makes it longer, CATALYST_STATEFUL_SEED repeats a run.
"""

import os
import time
from dataclasses import dataclass, field
from typing import Any, ClassVar
from uuid import UUID

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, get_state_machine_test, initialize, invariant, precondition, rule

from control_plane.changes import Change
from control_plane.errors import ApiError
from control_plane.sessions import service as sessions
from control_plane.sessions.service import Refused, Tokens
from tests.acceptance.logins import Door, claims, later
from tests.acceptance.plane import Api, Plane, Tenant, make_tenant, settings_for

SECONDS = float(os.environ.get("CATALYST_STATEFUL_SECONDS", "4"))
SEED = int(os.environ.get("CATALYST_STATEFUL_SEED", str(time.time_ns() % 10**6)))
ROUND = settings(
    max_examples=10,
    stateful_step_count=30,
    deadline=None,
    database=None,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)

GRACE, PATIENCE = 90, 10
IDLE, LIFETIME, TOKEN = 930, 3630, 300
DRIFT = 10.0
"""Seconds that the steps of a run may take in all; longer, and the rest of them is left out."""

HOSTS = ("", "shop.example.com", "desk.example.com")
PICK = st.integers(0, 10**6)


@dataclass
class Life:
    """A session as it should be. Times are the model's, in seconds; `token`: when its last access token ends."""

    id: UUID
    made: int
    seen: int
    token: int
    ended: bool = False

    @property
    def end(self) -> int:
        return self.made + LIFETIME

    def over(self, now: int) -> str | None:
        if self.ended:
            return "ended"
        return "expired" if now >= min(self.end, self.seen + IDLE) else None

    def see(self, now: int) -> None:
        expires = min(now + TOKEN, self.end)
        if self.token - now < (expires - now) / 2:
            self.token, self.seen = max(self.token, expires), now


@dataclass
class Line:
    """A chain of tokens, the current one last."""

    life: Life
    host: str
    tokens: list[str]
    turned: int
    lost: bool = False


@dataclass
class Scene:
    plane: Plane
    door: Door
    tenant: Tenant
    answers: dict[str, int] = field(default_factory=dict)


class Machine(RuleBasedStateMachine):
    scene: ClassVar[Scene]

    @initialize()
    def nobody_is_logged_in(self) -> None:
        self.scene.plane.execute("DELETE FROM catalyst.sessions WHERE profile_id = %s", self.scene.tenant.profile)
        self.scene.plane.execute("UPDATE catalyst.profiles SET status = 'active'")
        self.now, self.active, self.started = 0, True, time.monotonic()
        self.lives: list[Life] = []
        self.lines: list[Line] = []

    @property
    def in_time(self) -> bool:
        return time.monotonic() - self.started < DRIFT

    def line(self, number: int) -> Line:
        return self.lines[number % len(self.lines)]

    @precondition(lambda self: self.in_time and len(self.lives) < 4)
    @rule(replaces=st.booleans())
    def somebody_logs_in(self, replaces: bool) -> None:
        old = self.lives[-1] if replaces and self.lives else None
        if not self.active:
            with pytest.raises(ApiError, match="profile_suspended"):
                self.scene.door.begin(self.scene.tenant.profile, self.scene.tenant.id)
            return
        began = self.scene.door.begin(self.scene.tenant.profile, self.scene.tenant.id, replaces=old.id if old else None)
        if old is not None and old.over(self.now) is None:
            old.ended = True
        assert began.session not in {life.id for life in self.lives}, "a new id at every login"
        life = Life(began.session, self.now, self.now, self.now + TOKEN)
        self.lives.append(life)
        self.lines.append(Line(life, "", [began.tokens.refresh], self.now))

    @precondition(lambda self: self.in_time and self.lives)
    @rule(number=PICK, host=st.sampled_from(HOSTS[1:]))
    def a_browser_reaches_another_host(self, number: int, host: str) -> None:
        life = self.lives[number % len(self.lives)]
        if life.over(self.now) or not self.active:
            with pytest.raises(ApiError, match="revoked_session" if life.over(self.now) else "not_a_member"):
                self.scene.door.open_chain(life.id, host)
            return
        tokens = self.scene.door.open_chain(life.id, host)
        for line in self.lines:
            line.lost |= line.life is life and line.host == host and self.now > line.turned + GRACE
        life.see(self.now)
        self.lines.append(Line(life, host, [tokens.refresh], self.now))

    @precondition(lambda self: self.in_time and self.lines)
    @rule(number=PICK, back=st.sampled_from([0, 0, 1, 1, 2]), astray=st.sampled_from([False] * 9 + [True]))
    def somebody_comes_with_a_token(self, number: int, back: int, astray: bool) -> None:
        line = self.line(number)
        self.comes(line, line.tokens[max(0, len(line.tokens) - 1 - back)], astray=astray)

    def comes(self, line: Line, token: str, *, astray: bool) -> None:
        host = next(other for other in HOSTS if other != line.host) if astray else line.host
        expected = "unknown" if astray or line.lost else self.expected(line, token)
        answer = self.scene.door.refresh(token, host)
        told = answer.reason if isinstance(answer, Refused) else "tokens"
        assert told == expected, line
        self.scene.answers[told] = self.scene.answers.get(told, 0) + 1
        if expected == "reused":
            line.life.ended = True
        if isinstance(answer, Tokens):
            self.took(line, token, answer)

    @precondition(lambda self: self.in_time and self.lines)
    @rule(number=PICK, minutes=st.sampled_from([1, 2, 5]))
    def somebody_goes_on_and_time_passes(self, number: int, minutes: int) -> None:
        self.comes(self.line(number), self.line(number).tokens[-1], astray=False)
        later(self.scene.plane, minutes * 60)
        self.now += minutes * 60

    def expected(self, line: Line, token: str) -> str:
        """What a token of a chain should be answered with."""
        over = line.life.over(self.now)
        racing = line.tokens[-2:-1] == [token] and self.now < line.turned + GRACE
        if over:
            return over
        if token != line.tokens[-1] and not racing:
            return "reused"
        return "tokens" if self.active else "not_active"

    def took(self, line: Line, token: str, answer: Tokens) -> None:
        """The model after an answer with tokens."""
        due = self.now > line.turned + GRACE + PATIENCE
        if token == line.tokens[-1] and due:
            assert answer.refresh not in line.tokens, "a new one"
            line.tokens.append(answer.refresh)
            line.turned = line.life.seen = self.now
            line.life.token = max(line.life.token, min(self.now + TOKEN, line.life.end))
        else:
            assert answer.refresh == line.tokens[-1], "everybody goes on with the same"
            line.life.see(self.now)
        said = claims(answer.access)
        assert said["sid"] == str(line.life.id)
        assert 0 < said["exp"] - said["iat"] <= TOKEN

    @precondition(lambda self: self.in_time)
    @rule(minutes=st.sampled_from([1, 1, 2, 3, 5, 5, 14, 16]))
    def time_passes(self, minutes: int) -> None:
        later(self.scene.plane, minutes * 60)
        self.now += minutes * 60

    @precondition(lambda self: self.in_time and self.lives)
    @rule(number=PICK, what=st.sampled_from([""] * 9 + ["one", "all but one", "all", "suspend", "activate"]))
    def something_ends(self, number: int, what: str) -> None:
        life = self.lives[number % len(self.lives)]
        if what == "one":
            assert self.change(lambda change: sessions.end(change, life.id, "logout")) is (life.over(self.now) is None)
            life.ended |= life.over(self.now) is None
        elif what in {"all", "all but one"}:
            self.all_end(life if what == "all but one" else None)
        elif what:
            self.active = what == "activate"
            status = "active" if self.active else "suspended"
            self.scene.plane.execute("UPDATE catalyst.profiles SET status = %s WHERE id = %s", status, self.scene.tenant.profile)

    def all_end(self, but: Life | None) -> None:
        over = [life for life in self.lives if life is not but and life.over(self.now) is None]
        profile = UUID(self.scene.tenant.profile)
        count = self.change(lambda change: sessions.end_all(change, profile, "everywhere", but.id if but else None))
        assert count == len(over)
        for life in self.lives:
            # Without an exception nothing from before counts any more, what had run out included.
            life.ended |= life in over or but is None

    def change(self, work: Any) -> Any:
        async def done(change: Change) -> Any:
            return await work(change)

        return self.scene.door.change(done)

    @precondition(lambda self: self.in_time)
    @invariant()
    def it_is_known_who_holds_what(self) -> None:
        """The tokens of one chain, each asked for without being used; and which sessions count."""
        for line in self.lines[-1:]:
            for token in line.tokens[-3:]:
                held = self.scene.door.holder(token, line.host)
                expected = not line.lost and self.expected(line, token) == "tokens"
                assert (held is not None) == expected
                assert held is None or held.session == line.life.id
        own = self.scene.door.read(lambda work: sessions.of_profile(work, UUID(self.scene.tenant.profile)))
        assert {one.id for one in own} == {life.id for life in self.lives if life.over(self.now) is None}


@pytest.mark.timeout(SECONDS + 200)
def test_chains_of_refresh_tokens_are_as_the_model_says(admin: Api, plane: Plane) -> None:
    tenant = make_tenant(admin, "acme", [])
    admin.patch("/v1/orgs/acme", {"session_idle_seconds": IDLE, "session_lifetime_seconds": LIFETIME})
    with Door(settings_for(plane.settings.database_url, CATALYST_REFRESH_GRACE_SECONDS=str(GRACE))) as door:
        scene = Machine.scene = Scene(plane, door, tenant)
        end, rounds = time.monotonic() + SECONDS, 0
        while rounds == 0 or time.monotonic() < end:
            print(f"CATALYST_STATEFUL_SEED={SEED + rounds}")
            seed(SEED + rounds)(get_state_machine_test(Machine, settings=ROUND))()
            rounds += 1
    print(f"{rounds} rounds, refreshes answered: {scene.answers}")
    assert scene.answers["tokens"] > 0
