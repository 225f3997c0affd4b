"""The permissions for webhooks, for those who had every other."""

from control_plane.db.migrate import run_file

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    """Run the file."""
    run_file("0017_webhook_permissions.sql")
