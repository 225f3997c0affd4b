"""Random sequences of API calls against a model: database, sidecar and audit chain agree after each step.

CATALYST_STATEFUL_SECONDS makes it longer, CATALYST_STATEFUL_SEED repeats a run.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import get_state_machine_test

from tests.acceptance.plane import Api, bootstrapped
from tests.acceptance.processes import control_plane, sidecar
from tests.stateful.machine import Machine, Realm

SECONDS = float(os.environ.get("CATALYST_STATEFUL_SECONDS", "15"))
SEED = int(os.environ.get("CATALYST_STATEFUL_SEED", str(time.time_ns() % 10**6)))
STEPS = 40
ROUND = settings(
    max_examples=5,
    stateful_step_count=STEPS,
    deadline=None,
    database=None,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture
def realm(database: Any, tmp_path: Path) -> Iterator[Realm]:
    administrator = bootstrapped(database.url("catalyst_control"))
    with (
        control_plane(database.url("catalyst_control"), tmp_path / "control.log") as plane,
        sidecar(database.url("catalyst_sidecar"), tmp_path / "sidecar.log") as gate,
        httpx2.Client(base_url=gate.url, timeout=20) as checks,
        psycopg.connect(database.admin_url, autocommit=True) as connection,
    ):
        made = Realm(Api(plane.url, administrator.api_key), checks, connection)
        made.catch_up()
        yield made
        made.admin.close()


@pytest.mark.timeout(SECONDS + 300)
def test_database_sidecar_and_audit_chain_agree_with_the_model(realm: Realm):
    Machine.realm = realm
    end, rounds = time.monotonic() + SECONDS, 0
    while rounds == 0 or time.monotonic() < end:
        print(f"CATALYST_STATEFUL_SEED={SEED + rounds}")
        seed(SEED + rounds)(get_state_machine_test(Machine, settings=ROUND))()
        rounds += 1
    print(f"{rounds} rounds, {realm.steps} calls ({realm.refused} refused), {realm.compared} answers compared")
    assert realm.compared > realm.steps
    assert realm.refused > 0
