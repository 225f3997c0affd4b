"""Settings of the injector: each is read strictly, and all that is wrong is told at once."""

from pathlib import Path

import pytest

from control_plane.errors import OperatorError
from control_plane.injector.authority import renew
from control_plane.injector.settings import PASSED_ON, VARIABLES, InjectorSettings, repository
from sidecar.settings import VARIABLES as OF_SIDECARS
from tests.injector.scene import settings


@pytest.fixture
def enough(tmp_path: Path) -> dict[str, str]:
    renew(tmp_path, ["localhost"])
    return settings(tmp_path)


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        (
            "IMAGE",
            ["app:1", "r.example.com:5000/a/b_c:1.0", f"a@sha256:{'0' * 64}", f"r/a:1@sha256:{'f' * 64}"],
            ["app", "r.example.com:5000/app", "App:1", "app:1 ", "app:1\nimage: b", "a@sha256:0", "https://r/a:1", ":1"],
        ),
        ("DATABASE_SECRET", ["a/b", "a-b.c/url_1.x"], ["a", "/b", "a/", "A/b", "a/b/c", "a/b\n"]),
        ("KUBERNETES_VERSION", ["1.29", "v1.33.2", "1.30.0-gke.1"], ["1", "latest", "1.x", "1.29 or so"]),
        ("RUN_AS_USER", ["none", "65532"], ["0", "-1", "root", "1.5"]),
        ("OPS_HOST", ["::", "10.0.0.1"], ["localhost", "127.0.0.1", "::1", "0.0.0.0:9787"]),
        ("CPU_LIMIT", ["none", "2"], ["0", "10m"]),
        ("NATIVE_SIDECARS", ["on", "off"], ["yes"]),
        ("LEAVE_SECONDS", ["0", "60"], ["61", "-1", "1.5"]),
    ],
)
def test_each_setting(name: str, good: list[str], bad: list[str], enough: dict[str, str]) -> None:
    for text in good:
        InjectorSettings.from_environ({**enough, f"CATALYST_INJECTOR_{name}": text})
    for text in bad:
        with pytest.raises(OperatorError, match=r"write|more than"):
            InjectorSettings.from_environ({**enough, f"CATALYST_INJECTOR_{name}": text})


@pytest.mark.parametrize(
    ("way", "version", "native"),
    [
        ("auto", "1.28", False),
        ("auto", "1.29", True),
        ("auto", "2.0", True),
        ("on", "1.28", True),
        ("off", "1.33", False),
        ("on", "", True),
    ],
)
def test_native_sidecars_by_version(way: str, version: str, native: bool, enough: dict[str, str]) -> None:
    chosen = {"CATALYST_INJECTOR_NATIVE_SIDECARS": way, "CATALYST_INJECTOR_KUBERNETES_VERSION": version}
    assert InjectorSettings.from_environ({**enough, **chosen}).native is native


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("app:1", "app"),
        ("r.example.com:5000/a/app", "r.example.com:5000/a/app"),
        (f"r/app:1@sha256:{'0' * 64}", "r/app"),
        ("Odd Image", "Odd Image"),
    ],
)
def test_the_name_of_an_image(image: str, name: str) -> None:
    assert repository(image) == name


def test_what_is_passed_on_are_settings_of_sidecars() -> None:
    assert set(PASSED_ON) < {variable.name for variable in OF_SIDECARS}
    assert all(variable.meaning.endswith(".") for variable in VARIABLES)
