"""The documentation says what is so: examples are valid policies, links lead somewhere, names exist, pages are current."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

import control_plane.injector.settings
import control_plane.settings
import sidecar.settings
from sidecar import canonical
from sidecar.policy.cases import run_cases
from sidecar.policy.compile import compile as compile_policy
from sidecar.policy.document import parse

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMAND_LINE_VARIABLES = {"CATALYST_URL", "CATALYST_API_KEY"}
TEST_VARIABLES = {"CATALYST_TEST_IMPORT_ROWS"}


def pages(pattern: str) -> list[tuple[Path, str]]:
    """Each (page, first group) where the pattern is found."""
    return [(page, found) for page in PAGES for found in re.findall(pattern, page.read_text(), re.MULTILINE | re.DOTALL)]


POLICIES = pages(r"^```yaml\n(version: 1\n.*?)^```")


@pytest.mark.parametrize("source", [source for _, source in POLICIES], ids=[f"{p.stem}-{i}" for i, (p, _) in enumerate(POLICIES)])
def test_policy_examples_are_valid_and_pass_their_tests(source: str) -> None:
    policy = compile_policy(parse(YAML(typ="safe").load(source), ["orders.example.com"]))

    def read(method, url, client):
        return canonical.canonical_url(method, url, client)

    assert list(run_cases(policy, read, now=1_700_000_000)) == []


def test_there_are_policy_examples() -> None:
    assert len(POLICIES) >= 5


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text())
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_anchors_are_headings(page: Path) -> None:
    broken = []
    for target, anchor in re.findall(r"\]\(([^)#:\s]*)#([^)]+)\)", page.read_text()):
        headings = re.findall(r"^#+ (.*)$", (page.parent / target if target else page).read_text(), re.MULTILINE)
        if anchor not in {re.sub(r"[^a-z0-9 _-]", "", heading.lower()).replace(" ", "-") for heading in headings}:
            broken.append(f"{target}#{anchor}")
    assert broken == []


def test_settings_that_are_named_exist() -> None:
    known = (
        {
            v.name
            for v in (*sidecar.settings.VARIABLES, *control_plane.settings.VARIABLES, *control_plane.injector.settings.VARIABLES)
        }
        | COMMAND_LINE_VARIABLES
        | TEST_VARIABLES
    )
    assert {(page.name, name) for page, name in pages(r"\b(CATALYST_[A-Z_]+)\b") if name not in known} == set()


def test_tests_that_are_named_exist() -> None:
    named = pages(r"`(tests/[\w/.:-]+)`")
    assert len(named) > 20
    missing = set()
    for page, name in named:
        path, _, function = name.partition("::")
        if not (ROOT / path).exists() or f"def {function}(" not in ((ROOT / path).read_text() if function else "def ("):
            missing.add((page.name, name))
    assert missing == set()


def test_make_targets_that_are_named_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {(page.name, name) for page, name in pages(r"\bmake ([a-z]+)`") if name not in targets} == set()


def test_reference_is_current() -> None:
    check = subprocess.run([sys.executable, "docs/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (check.returncode, check.stderr) == (0, "")


def test_reference_check_notices_an_outdated_page(tmp_path: Path) -> None:
    for name in ("sidecar", "control_plane"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "docs" / "reference").mkdir(parents=True)
    for name in ("generate.py", "refusals.py"):
        (tmp_path / "docs" / name).write_text((ROOT / "docs" / name).read_text())
    for page in (ROOT / "docs" / "reference").iterdir():
        (tmp_path / "docs" / "reference" / page.name).write_text(page.read_text().replace("127.0.0.1:8787", "127.0.0.1:8788"))
    check = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert check.returncode == 1
    assert "docs/reference/settings.md" in check.stderr
