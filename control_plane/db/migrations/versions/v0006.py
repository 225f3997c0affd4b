"""What sidecars tell: sampled decisions, shadows' differences, API keys' last use."""

from control_plane.db.migrate import run_file

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Run the file."""
    run_file("0006_decisions.sql")
