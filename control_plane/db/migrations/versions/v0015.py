"""Logouts that a provider asked for."""

from control_plane.db.migrate import run_file

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    """Run the file."""
    run_file("0015_logouts.sql")
