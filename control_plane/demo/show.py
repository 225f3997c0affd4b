"""The tour, with what is said before and after it."""

import time

from rich.console import Console

from control_plane.demo.drawing import Drawing
from control_plane.demo.gate import cookie
from control_plane.demo.login_chapter import LoginChapter
from control_plane.demo.stage import MAX_STALENESS, Stage
from control_plane.demo.tour import Tour
from control_plane.demo.webhook_chapter import WebhookChapter
from control_plane.demo.world import HOST, session_for
from control_plane.errors import OperatorError


def show(stage: Stage, started: float, *, stays: bool) -> bool:
    """Give the tour; whether everything held. `started`: when the command was given, on the monotonic clock."""
    if stage.stack.postgres is None:
        raise OperatorError("the tour stops and starts its own PostgreSQL and cannot run on another")
    drawing = Drawing(Console(width=None if Console().is_terminal else 120))
    drawing.opening(time.monotonic() - started, _places(stage))
    sidecar_ops = stage.stack.urls["sidecar_ops"]
    tour = Tour(stage.api, stage.gates, stage.world, stage.stack.postgres, sidecar_ops, MAX_STALENESS, drawing)
    people = LoginChapter(tour, stage.place, stage.accounts)
    tour.run(people.steps(), WebhookChapter(tour).steps())
    drawing.closing(tour.wrong, time.monotonic() - started, _hints(stage) if stays else ())
    return not tour.wrong


def _places(stage: Stage) -> dict[str, str]:
    """What is running where."""
    urls = stage.stack.urls
    gates = {gate.name: f"http://{HOST}:{gate.port}" for gate in stage.gates}
    login = {"login": stage.stack.environ["CATALYST_LOGIN_URL"], "identity provider": stage.place.issuer}
    return gates | login | {"sidecar": urls["sidecar"], "control plane": urls["control"], "logs": str(stage.stack.data / "logs")}


def _hints(stage: Stage) -> list[str]:
    """What to open and to try."""
    alice = stage.world.alice
    session_for(stage.api, alice, stage.world.org)
    name, value = cookie(alice.token)
    urls = stage.stack.urls
    door = f"http://{HOST}:{stage.gates[0].port}"
    return [
        "Everything stays up until Ctrl-C. In a browser:",
        f"  {door}/orders/42   the application behind Traefik",
        *(f"      log in as {who.name} with the password {who.password}" for who in stage.accounts.values()),
        f"      a second factor, for a refund: {stage.place.issuer}/phone/alice shows what her phone would",
        f"  {stage.stack.environ['CATALYST_LOGIN_URL'].removesuffix('/login')}/sessions   your own sessions",
        f"  {urls['control']}/docs   the control plane's API",
        "In a shell, with a token of alice's that lives for five minutes:",
        f"  curl -i {door}/orders/42 -H '{name}: {value}'",
        f"  curl -s {urls['sidecar_ops']}/metrics | grep forward_auth",
        f"  export CATALYST_URL={urls['control']} CATALYST_API_KEY={stage.key}",
        "  catalyst policy versions orders",
    ]
