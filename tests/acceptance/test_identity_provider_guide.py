"""docs/guides/connecting-an-identity-provider.md, as it is written, with a provider that answers."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.acceptance.plane import Api, Plane
from tests.acceptance.processes import environment
from tests.providers.liar import Liar

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs/guides/connecting-an-identity-provider.md"


def test_the_guide_is_what_works(plane: Plane, admin: Api, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("catalyst-secret\n")
    (tmp_path / "catalyst").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m control_plane "$@"\n')
    (tmp_path / "catalyst").chmod(0o755)
    commands = "set -e\n" + "".join(re.findall(r"```sh\n(.*?)```", GUIDE.read_text(), re.DOTALL))
    with Liar(algorithm="EdDSA") as liar:
        variables: dict[str, Any] = {"CATALYST_URL": plane.url, "CATALYST_API_KEY": plane.administrator.api_key}
        known = environment(PYTHONPATH=str(ROOT), ISSUER=liar.issuer, **variables)
        known["PATH"] = f"{tmp_path}:{known['PATH']}"
        done = subprocess.run(
            ["sh", "-c", commands], env=known, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False
        )
    assert done.returncode == 0, done.stderr
    assert "The provider knows the client." in done.stdout
    made = admin.get("/v1/orgs/acme/identity-providers/company")
    assert (made["just_in_time"], made["domains"], made["group_mappings"]) == (True, ["acme.example"], {"staff": "staff"})
    assert (made["second_factor_acr"], made["acr_aliases"]) == (["urn:example:gold"], {"high": "urn:example:gold"})
