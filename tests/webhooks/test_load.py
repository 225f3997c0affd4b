"""Webhooks arrive while endpoints are slow, fail or hang and a worker dies again and again: `make webhooks`, in short.

CATALYST_WEBHOOK_EVENTS=100000 makes it as large as `make webhooks`.
"""

import os
import tempfile
from pathlib import Path

import pytest

from loadtests.webhooks.__main__ import render
from loadtests.webhooks.run import SHORT, Plan, measure

EVENTS = int(os.environ.get("CATALYST_WEBHOOK_EVENTS", "0"))


@pytest.mark.alone
@pytest.mark.timeout(EVENTS // 20 + 300)
def test_every_event_arrives_wherever_somebody_takes_it():
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="catalyst-webhooks-") as folder:
        outcome = measure(Path(folder), Plan(events=EVENTS) if EVENTS else SHORT)
    print(render(outcome, load))
    assert outcome.wrong == []
    assert outcome.kills > 0
    assert len(outcome.burst) > len(outcome.beside) > 0
