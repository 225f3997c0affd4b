"""Roles' privileges and row-level security."""

from control_plane.db.migrate import run_file

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Run the file."""
    run_file("0003_privileges.sql")
