"""What the control plane remembers of requests: answers that may be asked for again."""

from control_plane.db.migrate import run_file

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Run the file."""
    run_file("0005_requests.sql")
