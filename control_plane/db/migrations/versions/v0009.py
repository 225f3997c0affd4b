"""Who may be taken in, asked for many at once; the erasure of one profile."""

from control_plane.db.migrate import run_file

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Run the file."""
    run_file("0009_people.sql")
