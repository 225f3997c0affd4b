"""One injector for a cluster with native sidecars and one for a cluster without, for the whole session."""

from collections.abc import Iterator

import pytest

from tests.injector.scene import OLDEST, Injector, injector


@pytest.fixture(scope="session")
def native(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Injector]:
    with injector(tmp_path_factory.mktemp("native"), CATALYST_ISSUER="https://auth.example.com/$(HOME)") as found:
        yield found


@pytest.fixture(scope="session")
def ordinary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Injector]:
    with injector(tmp_path_factory.mktemp("ordinary"), CATALYST_INJECTOR_KUBERNETES_VERSION=OLDEST) as found:
        yield found
