"""The injector's own authority: made once, renewed in time, and never ahead of what the API server trusts."""

import base64
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import typer
from cryptography import x509

from control_plane.cli.injector import injector_certificates
from control_plane.errors import OperatorError
from control_plane.injector.authority import renew
from tests.acceptance.processes import environment

START = datetime(2026, 1, 1, tzinfo=UTC)
NAMES = ["catalyst-auth-injector.catalyst-auth.svc"]


def certificates(pem: bytes) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(pem)


def test_twenty_years_of_renewals_are_trusted_by_what_was_published_before(tmp_path: Path) -> None:
    published, authorities = renew(tmp_path, NAMES, clock=lambda: START).ca, 1
    for day in range(20, 20 * 365, 20):
        now = START + timedelta(days=day)
        done = renew(tmp_path, NAMES, clock=lambda now=now: now)
        [leaf] = certificates((tmp_path / "tls.crt").read_bytes())
        assert leaf.not_valid_after_utc > now + timedelta(days=10)
        # Even if the caBundle is only as new as the renewal before this one.
        trusted = [
            one
            for one in certificates(published)
            if one.subject == leaf.issuer and one.not_valid_after_utc > leaf.not_valid_after_utc
        ]
        assert len(trusted) == 1
        leaf.verify_directly_issued_by(trusted[0])
        assert 1 <= len(certificates(done.ca)) <= 2
        published = done.ca
        authorities += done.authority
    assert authorities == 3


def test_nothing_is_done_where_nothing_is_due(tmp_path: Path) -> None:
    first = renew(tmp_path, NAMES)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert (first.authority, first.certificate) == (True, True)
    again = renew(tmp_path, NAMES)
    assert (again.authority, again.certificate, again.ca) == (False, False, first.ca)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    assert sorted(before) == ["ca.crt", "ca.key", "tls.crt", "tls.key"]
    assert {(tmp_path / name).stat().st_mode & 0o777 for name in ("ca.key", "tls.key")} == {0o600}


def test_another_name_or_a_broken_certificate_is_made_anew_by_the_same_authority(tmp_path: Path) -> None:
    first = renew(tmp_path, NAMES)
    other = renew(tmp_path, ["other.svc"])
    assert (other.authority, other.certificate, other.ca) == (False, True, first.ca)
    (tmp_path / "tls.crt").write_text("nothing")
    assert renew(tmp_path, ["other.svc"]).certificate


@pytest.mark.parametrize("file", ["ca.crt", "ca.key"])
def test_an_authority_that_cannot_be_read_is_not_replaced_silently(tmp_path: Path, file: str) -> None:
    renew(tmp_path / "other", NAMES)
    renew(tmp_path / "own", NAMES)
    own = tmp_path / "own" / file
    for content in (b"nothing", (tmp_path / "other" / file).read_bytes()):
        own.write_bytes(content)
        with pytest.raises(OperatorError, match=r"do not belong together\. Bring back"):
            renew(tmp_path / "own", NAMES)
        assert own.read_bytes() == content


def test_the_command_prints_what_the_webhook_needs(tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "control_plane", "injector-certificates", str(tmp_path / "tls"), *arguments]
        return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60, check=False)

    told = json.loads(run("--namespace", "auth", "--json").stdout)
    assert (told["authority_made"], told["certificate_made"]) == (True, True)
    assert base64.b64decode(told["ca_bundle"]) == (tmp_path / "tls" / "ca.crt").read_bytes()
    [leaf] = certificates((tmp_path / "tls" / "tls.crt").read_bytes())
    held = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)
    assert held == ["catalyst-auth-injector.auth.svc", "catalyst-auth-injector.auth.svc.cluster.local"]
    again = run("--namespace", "auth")
    assert again.stdout == f"{tmp_path}/tls: nothing was due\ncaBundle: {told['ca_bundle']}\n"


@pytest.mark.parametrize("wrong", [{"service": "Injector"}, {"namespace": "auth.svc"}, {"namespace": ""}])
def test_names_that_kubernetes_does_not_know(tmp_path: Path, wrong: dict[str, str]) -> None:
    with pytest.raises(typer.BadParameter, match="write a name of Kubernetes"):
        injector_certificates(tmp_path / "tls", **wrong)
    assert not (tmp_path / "tls").exists()
