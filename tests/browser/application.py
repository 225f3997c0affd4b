"""The application of these tests: what a person does at one. `uvicorn tests.browser.application:create --factory`.

/poll asks twenty times at once, again and again, by the function that docs/guides/log-people-in.md gives; /form sends a form; all
else says who is there.
"""

import json
import re
from html import escape
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "log-people-in.md"

POLL = """
<!doctype html><meta charset="utf-8"><title>poll</title>
<script>
%s
window.statuses = [];
window.users = new Set();
window.saved = [];
window.wave = async () => {
  const answers = await Promise.all(Array.from({length: 20}, (_, n) => ask(`/orders/api/${n}`)));
  for (const answer of answers) {
    statuses.push(answer.status);
    if (answer.ok) users.add((await answer.json()).user);
  }
};
window.save = async text => {
  const answer = await ask("/orders/api/save", {method: "POST", body: text, headers: {"content-type": "text/plain"}});
  return [answer.status, answer.ok ? (await answer.json()).body : answer.headers.get("x-catalyst-login")];
};
</script>
"""
FORM = """
<!doctype html><meta charset="utf-8"><title>form</title>
<form method="post" action="/orders/save"><input name="note"><button>Save</button></form>
"""


def snippet() -> str:
    """The function of the guide, as people copy it."""
    found = re.search(r"^```js\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def create() -> Starlette:
    methods = ["GET", "HEAD", "POST"]
    return Starlette(
        routes=[
            Route("/orders/poll", lambda _: HTMLResponse(POLL % snippet())),
            Route("/orders/form", lambda _: HTMLResponse(FORM)),
            Route("/orders/api/{rest:path}", api, methods=methods),
            Route("/{rest:path}", show, methods=methods),
        ]
    )


async def api(request: Request) -> Response:
    return JSONResponse({"user": request.headers.get("x-user-sub"), "body": (await request.body()).decode()})


async def show(request: Request) -> Response:
    """Who is there and what was asked for, to be read on the page."""
    seen = {
        "method": request.method,
        "url": request.scope["raw_path"].decode() + (f"?{request.url.query}" if request.url.query else ""),
        "user": request.headers.get("x-user-sub", ""),
        "email": request.headers.get("x-user-email", ""),
        "cookies": sorted(request.cookies),
        "body": (await request.body()).decode(),
    }
    links = '<a href="/.catalyst/logout">Log out</a>'
    return HTMLResponse(f"<!doctype html><title>application</title><pre>{escape(json.dumps(seen))}</pre>{links}")
