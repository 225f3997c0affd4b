"""Signing keys by schedule, sessions of an org."""

from control_plane.db.migrate import run_file

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Run the file."""
    run_file("0008_keys.sql")
