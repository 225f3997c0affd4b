"""The worker as a process: what is committed arrives, whatever happens to workers."""

from tests.webhooks.scene import Scene


def test_a_change_arrives(system: Scene):
    system.endpoint("/all")
    with system.worker() as worker:
        system.api.post("/v1/orgs", {"slug": "acme", "name": "Acme"})
        kinds = [arrival.event["type"] for arrival in system.receiver.wait_for("/all", 2)]
        assert kinds == ["webhook.created", "org.created"]
        system.settled()
        assert worker.stop() == 0, worker.lines()
    system.assert_counters()
    assert system.one("SELECT count(*) FROM catalyst.workers") == 0
