"""Identity providers of orgs."""

from control_plane.db.migrate import run_file

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Run the file."""
    run_file("0010_providers.sql")
