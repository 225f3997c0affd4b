"""The audit log: events chained by hash, in monthly partitions, with signed checkpoints."""

from control_plane.db.migrate import run_file

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Run the file."""
    run_file("0004_audit.sql")
