"""`catalyst injector` and `catalyst injector-certificates`: what puts sidecars into pods, and certificates for it."""

import base64
import json
import os
import re
from pathlib import Path
from typing import Annotated

import typer

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def injector() -> None:
    """Run the admission webhook that puts sidecars into pods. Its settings are CATALYST_* environment variables; no database."""
    import uvloop

    from control_plane.injector.server import serve
    from control_plane.injector.settings import InjectorSettings

    uvloop.run(serve(InjectorSettings.from_environ(os.environ)))


def injector_certificates(
    directory: Annotated[Path, typer.Argument(help="Where ca.crt, ca.key, tls.crt and tls.key are, or are made.")],
    service: Annotated[str, typer.Option(help="The Service that the API server asks.")] = "catalyst-auth-injector",
    namespace: Annotated[str, typer.Option(help="The namespace that it is in.")] = "catalyst-auth",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Make or renew the injector's certificates where there is no cert-manager. Run it daily: it renews what is due, in time.

    Prints `caBundle`, which the webhook's clientConfig must hold after each run. It does not speak to a cluster.
    """
    from control_plane.injector.authority import renew

    for option, text in (("--service", service), ("--namespace", namespace)):
        if not _NAME.fullmatch(text):
            raise typer.BadParameter(f"{option}: write a name of Kubernetes, for example catalyst-auth")
    done = renew(directory, [f"{service}.{namespace}.svc", f"{service}.{namespace}.svc.cluster.local"])
    bundle = base64.b64encode(done.ca).decode()
    if as_json:
        print(json.dumps({"authority_made": done.authority, "certificate_made": done.certificate, "ca_bundle": bundle}))
        return
    made = [name for name, new in (("a new authority", done.authority), ("a new certificate", done.certificate)) if new]
    print(f"{directory}: {' and '.join(made) or 'nothing was due'}")
    print(f"caBundle: {bundle}")
