"""Many clients change things at once: no error, no deadlock, no lost update; how long it takes is printed beside a bare INSERT.

CATALYST_LOAD_CLIENTS and CATALYST_LOAD_SECONDS make it as large as `make load`: 200 clients for 60 seconds.
"""

import os
import tempfile
from pathlib import Path

import pytest

from loadtests.changes.__main__ import render
from loadtests.changes.run import measure

CLIENTS = int(os.environ.get("CATALYST_LOAD_CLIENTS", "40"))
SECONDS = float(os.environ.get("CATALYST_LOAD_SECONDS", "6"))


@pytest.mark.alone
@pytest.mark.timeout(SECONDS + 200)
def test_nothing_is_lost_and_nothing_fails():
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="catalyst-concurrency-") as folder:
        outcome = measure(Path(folder), CLIENTS, SECONDS)
    print(render(outcome, load))
    assert (outcome.errors, outcome.deadlocks, outcome.lost) == (0, 0, []), outcome.statuses
    assert len(outcome.changes) > CLIENTS * 3
