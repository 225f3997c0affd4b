"""Webhooks: endpoints, queues, deliveries."""

from control_plane.db.migrate import run_file

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    """Run the file."""
    run_file("0016_webhooks.sql")
