"""The guide's manifests are valid, and the numbers in them are ones that there are."""

import asyncio
import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import psycopg
import pytest
from prometheus_client import generate_latest
from ruamel.yaml import YAML

from control_plane.db.pool import create_pool
from control_plane.delivery.metrics import DeliveryMetrics

GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "guides" / "scaling-workers.md").read_text()
BLOCKS = [YAML(typ="safe").load(block) for block in re.findall(r"^```yaml\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)]
[AUTOSCALER] = [one for one in BLOCKS if one.get("kind") == "HorizontalPodAutoscaler"]
SCALED = {one["spec"]["triggers"][0]["type"]: one for one in BLOCKS if one.get("kind") == "ScaledObject"}
[RULES] = [one["groups"][0]["rules"] for one in BLOCKS if "groups" in one]

SPEC = {"scaleTargetRef", "minReplicaCount", "maxReplicaCount", "fallback", "triggers"}
TRIGGERS = {
    "prometheus": {"serverAddress", "query", "threshold", "ignoreNullValues"},
    "postgresql": {"connectionFromEnv", "query", "targetQueryValue"},
}
"""Of what https://keda.sh/docs/2.16/scalers/ names, what the guide uses."""

FILL = """
WITH hook AS (
    INSERT INTO catalyst.webhooks (url, events, retry_schedule, status)
    SELECT 'https://hooks.example.com', '{*}', '{5}', status FROM unnest('{active,active,paused}'::text[]) AS status RETURNING id
), numbered AS (SELECT id, row_number() OVER () AS n FROM hook)
SELECT id, n FROM numbered
"""


@pytest.mark.parametrize("version", ["1.33", "1.25"])
def test_the_autoscaler_is_valid(version: str) -> None:
    kubernetes_validate.validate(AUTOSCALER, version, strict=True)


@pytest.mark.parametrize("kind", TRIGGERS)
def test_scaled_objects_have_the_form_that_keda_takes(kind: str) -> None:
    scaled = SCALED[kind]
    assert (scaled["apiVersion"], set(scaled)) == ("keda.sh/v1alpha1", {"apiVersion", "kind", "metadata", "spec"})
    assert set(scaled["spec"]) <= SPEC
    assert scaled["spec"]["scaleTargetRef"] == {"name": "catalyst-worker"}
    assert 0 < scaled["spec"]["minReplicaCount"] < scaled["spec"]["maxReplicaCount"]
    [trigger] = scaled["spec"]["triggers"]
    assert set(trigger["metadata"]) == TRIGGERS[kind]
    # KEDA's metadata are texts, numbers and booleans too.
    assert {type(value) for value in trigger["metadata"].values()} == {str}


def test_every_metric_in_it_is_one_of_a_worker() -> None:
    known = set(re.findall(r"^# HELP (\S+) ", generate_latest(DeliveryMetrics().registry).decode(), re.MULTILINE))
    expressions = [rule["expr"] for rule in RULES] + [SCALED["prometheus"]["spec"]["triggers"][0]["metadata"]["query"]]
    assert {rule["alert"] for rule in RULES} >= {"WebhookEventsWait", "WebhookDeadLetters", "WebhookDisabled"}
    for text in expressions:
        assert set(re.findall(r"\bwebhook_\w+", text)) <= known, text
        assert re.findall(r"\bwebhook_\w+", text), text
    assert set(re.findall(r"`(webhook_[a-z_]+)`", GUIDE)) <= known
    assert AUTOSCALER["spec"]["metrics"][0]["external"]["metric"]["name"] in known
    # What waits is the same at each worker, and must not be added up.
    assert not re.search(r"sum\((rate\(|increase\()?webhook_(queue|oldest|outbox|workers|dead|endpoints)", GUIDE)


def test_the_databases_own_answer_is_the_depth_that_workers_tell(database: Any) -> None:
    query = SCALED["postgresql"]["spec"]["triggers"][0]["metadata"]["query"]

    async def told() -> float:
        metrics = DeliveryMetrics()
        async with await create_pool(database.url("catalyst_worker"), "catalyst_worker", size=1) as pool:
            await metrics.refresh(pool)
        depth: float = metrics.depth._value.get()
        return depth

    def asked() -> Any:
        with psycopg.connect(database.url("catalyst_worker")) as worker:
            row = worker.execute(query).fetchone()
        assert row is not None
        assert isinstance(row[0], int)
        return row[0]

    assert asked() == asyncio.run(told()) == 0
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        for webhook, number in admin.execute(FILL).fetchall():
            admin.execute(
                "UPDATE catalyst.webhook_queues SET pending = %s, retrying = %s, held_until = CASE WHEN %s = 2 THEN now() + interval '1 h' END"
                " WHERE webhook_id = %s",
                (100 * number, number, number, webhook),
            )
        admin.execute("INSERT INTO catalyst.outbox_events (type, data) SELECT 'org.created', '{}' FROM generate_series(1, 7)")
    assert asked() == asyncio.run(told()) == 7 + 100 - 1
