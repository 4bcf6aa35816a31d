"""Fixtures that every test may use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.consul import Consul, running_consul
from tests.support.docker import Docker, running_docker


@pytest.fixture(scope="session")
def _shared_consul(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consul]:
    """One agent for the whole session: starting one takes seconds."""
    with running_consul(tmp_path_factory.mktemp("consul")) as consul:
        yield consul


@pytest.fixture
def consul(_shared_consul: Consul) -> Iterator[Consul]:
    """A real Consul agent with an empty catalog; leave it running."""
    yield _shared_consul
    _shared_consul.clear()


@pytest.fixture(scope="session")
def docker() -> Iterator[Docker]:
    """A Docker daemon of the tests' own, for the whole session; leave no container behind."""
    with running_docker() as docker:
        yield docker
