"""Sessions that last: refresh, lifetimes, devices."""

from control_plane.db.migrate import run_file

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Run the file."""
    run_file("0011_logins.sql")
