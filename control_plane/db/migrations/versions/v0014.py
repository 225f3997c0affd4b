"""Sessions of machines: what they came from, and what they are narrowed to."""

from control_plane.db.migrate import run_file

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Run the file."""
    run_file("0014_machines.sql")
