"""Clusters that tests of others start."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

from concoord import exception
from concoord.object.counter import Counter as LocalCounter
from concoord.proxy.counter import Counter
from concoord.testing import Cluster

if TYPE_CHECKING:
    from pathlib import Path


def test_the_fixture_serves(concoord_cluster: Cluster) -> None:
    assert len(concoord_cluster.replicas) == 3
    with Counter(concoord_cluster.address) as counter:
        counter.increment()
        assert counter.getvalue() == 1


def test_a_leader_dies_and_comes_back(concoord_cluster: Cluster) -> None:
    with Counter(concoord_cluster.address) as counter:
        counter.increment()
        killed = concoord_cluster.leader
        killed.kill()
        assert not killed.alive
        counter.increment()
        assert concoord_cluster.leader is not killed
        killed.restart()
        assert killed.alive
    with Counter(killed.address) as counter:
        assert counter.getvalue() == 2


def test_a_leader_that_is_paused_is_replaced() -> None:
    with Cluster(3, LocalCounter) as cluster, Counter(cluster.address) as counter:
        paused = cluster.leader
        paused.pause()
        counter.increment()
        paused.resume()
        assert counter.getvalue() == 1


def test_one_that_stops_leaves_the_others(concoord_cluster: Cluster) -> None:
    stopped = concoord_cluster.replicas[2]
    stopped.stop()
    assert not stopped.alive
    members = concoord_cluster.status(concoord_cluster.leader)["members"]
    assert stopped.address not in [member["address"] for member in members]


def test_durable_ones_remember() -> None:
    with Cluster(1, durable=True) as cluster:
        with Counter(cluster.address) as counter:
            counter.increment()
        cluster.replicas[0].restart()
        with Counter(cluster.address) as counter:
            assert counter.getvalue() == 1


MAY_CUT = os.geteuid() == 0 and shutil.which("nft") is not None


@pytest.mark.skipif(not MAY_CUT, reason="a partition takes root and nftables")
def test_a_minority_is_cut_off_until_healed(concoord_cluster: Cluster) -> None:
    cut_off = concoord_cluster.leader
    index = concoord_cluster.replicas.index(cut_off)
    concoord_cluster.partition([index], {0, 1, 2} - {index})
    with Counter(concoord_cluster.address) as counter:
        counter.increment()
    assert concoord_cluster.leader is not cut_off
    with Counter(cut_off.address, timeout=0.5) as alone:
        with pytest.raises(exception.CallTimeoutError):
            alone.getvalue()
        concoord_cluster.heal()
    with Counter(cut_off.address) as again:
        assert again.getvalue() == 1


def test_a_partition_without_root_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with Cluster(1) as cluster, pytest.raises(PermissionError, match="as root"):
        cluster.partition([0])


def test_what_the_test_imports_the_replicas_find(tmp_path: Path) -> None:
    (tmp_path / "till.py").write_text(
        textwrap.dedent("""
            class Till:
                def __init__(self):
                    self.coins = 0
                def put(self, coins):
                    self.coins += coins
                    return self.coins
        """)
    )
    test = tmp_path / "test_till.py"
    test.write_text(
        textwrap.dedent("""
            from concoord import proxy_for
            from concoord.testing import Cluster
            from till import Till
            def test_till():
                with Cluster(1, Till) as cluster, proxy_for(Till)(cluster.address) as till:
                    assert till.put(5) == 5
        """)
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", test], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def test_one_that_cannot_start_says_why() -> None:
    with pytest.raises(RuntimeError, match="exit code 4"), Cluster(1, "no.such.Thing"):
        pass
