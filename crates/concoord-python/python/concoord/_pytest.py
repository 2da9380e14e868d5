"""The fixture that pytest finds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from concoord.testing import Cluster

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def concoord_cluster() -> Iterator[Cluster]:
    """Run a cluster of three replicas, on which all ready-made objects can be had by name."""
    with Cluster(3) as cluster:
        yield cluster
