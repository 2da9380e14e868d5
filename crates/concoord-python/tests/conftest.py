"""What tests share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cluster import Cluster
from frames import WorkerProcess
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Iterator

# How long an example takes says more about the machine than about us.
settings.register_profile("concoord", deadline=None)
settings.load_profile("concoord")


@pytest.fixture
def worker() -> Iterator[WorkerProcess]:
    """A worker that hosts a TenCounter."""
    with WorkerProcess() as worker:
        yield worker


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Start replicas, as processes, and kill what is left of them."""
    with Cluster() as cluster:
        yield cluster
