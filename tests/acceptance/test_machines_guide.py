"""docs/guides/machines.md, step by step, as it is written. Where it says GitHub, a provider of our own signs the job's token."""

import contextlib
import json
import os
import re
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.acceptance.test_onboarding_guide import administrator, folder  # noqa: F401  (a fixture)
from tests.acceptance.test_quickstart import PROGRAMS, clean_environment, everything_up
from tests.providers.liar import Liar

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "guides" / "machines.md").read_text()
STEPS = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
WORKFLOW = next(text for text in re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL) if "run: |" in text)
GITHUB = "https://token.actions.githubusercontent.com"


def up(folder: Path) -> contextlib.AbstractContextManager[dict[str, str]]:  # noqa: F811  (the fixture)
    """`catalyst up`, whose control plane may ask a provider on this machine."""
    return everything_up(folder, {"CATALYST_OUTBOUND_NETWORKS": "127.0.0.0/8"})


@contextlib.contextmanager
def jobs_tokens(liar: Liar) -> Iterator[str]:
    """What GitHub gives a job to ask for its token: `ACTIONS_ID_TOKEN_REQUEST_URL`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            (audience,) = parse_qs(urlsplit(self.path).query)["audience"]
            assert self.headers["authorization"] == "Bearer of-this-job"
            body = json.dumps({"value": liar.access_token("repo:acme/stock:ref:refs/heads/main", audience)}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/?api-version=2"
        server.shutdown()
        thread.join()


def job() -> str:
    """The workflow's step, as the runner would run it, and what the token opens then."""
    (step,) = re.findall(r"run: \|\n((?: {10}.*\n)+)", WORKFLOW)
    return re.sub(r"^ {10}", "", step, flags=re.MULTILINE) + 'check GET "$TOKEN"\ncheck PUT "$TOKEN"\n'


@pytest.mark.timeout(240)
def test_the_guide_works_as_it_is_written(folder: Path) -> None:  # noqa: F811  (the fixture)
    with up(folder) as urls, Liar() as liar, jobs_tokens(liar) as request_url:
        liar.lies.add("metadata_tokens_only")
        put_in = {"http://127.0.0.1:8080": urls["control"], "http://127.0.0.1:8787": urls["sidecar"], GITHUB: liar.issuer}
        script = "\n".join([*STEPS, job()])
        for written, meant in put_in.items():
            assert written in script
            script = script.replace(written, meant)
        env = clean_environment() | {"PATH": f"{PROGRAMS}:{os.environ['PATH']}", "CATALYST_URL": urls["control"]}
        env |= {"CATALYST_API_KEY": administrator(folder, env), "CATALYST": urls["control"], "GITHUB_ENV": "env"}
        env |= {"ACTIONS_ID_TOKEN_REQUEST_URL": request_url, "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "of-this-job"}
        command = ["bash", "-c", f"set -euo pipefail\n{script}"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=200, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.findall(r"^(\d{3}) (\S*)$", done.stdout, re.MULTILINE) == [
        ("200", "exports,reports"),
        ("403", "policy_denied"),
        ("200", "reports"),
        ("401", "revoked_session"),
        ("200", ""),
        ("200", ""),
    ]
    assert '"scope": "exports reports"' in done.stdout
    assert "Nobody logs in at this provider" in done.stdout
    assert (folder / "env").read_text().startswith("TOKEN=ey")
