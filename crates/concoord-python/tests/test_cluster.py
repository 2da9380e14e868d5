from __future__ import annotations

import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest
import tencounter

import concoord
from concoord import exception
from concoord.proxy.counter import Counter

if TYPE_CHECKING:
    from cluster import Cluster


def test_a_counter_outlives_a_replica(cluster: Cluster) -> None:
    cluster.start("concoord.object.counter.Counter", 2)
    with Counter(cluster.bootstrap) as c:
        c.increment()
        c.increment()
        assert c.getvalue() == 2
        cluster.kill(0)
        c.increment()
        assert c.getvalue() == 3
        c.__concoordinit__()
        c.increment()
        assert (c.getvalue(), str(c)) == (1, "The counter value is 1")


def test_a_class_of_ones_own_outlives_a_replica(cluster: Cluster) -> None:
    cluster.start("tencounter.TenCounter", 3)
    with concoord.proxy_for(tencounter.TenCounter)(cluster.bootstrap) as c:
        assert [c.increment(), c.increment(5, note="x"), len(c)] == [10, 15, 15]
        c.keep("k", {1: (2,)})
        cluster.kill(0)
        assert c.increment() == 25
        assert c["k"][0] == {1: (2,)}
        assert "k" in c
        with pytest.raises(exception.RemoteError, match="OverflowedError") as raised:
            c.increment(5000)
        assert 'File "tencounter.py"' in str(raised.value.__cause__)
        with pytest.raises(exception.NonDeterministicError, match="start a thread"):
            c.reach_out("thread")
        with pytest.raises(TypeError, match="the result, value of 'job', item 1"):
            c.unencodable()
        with pytest.raises(exception.NoSuchMethodError):
            c._call("_private")
        assert c.drawn()["uuid"]


def test_who_joins_has_the_state(cluster: Cluster) -> None:
    cluster.start("tencounter.TenCounter")
    with concoord.connect(cluster.bootstrap) as c:
        c.increment(7)
        cluster.start("tencounter.TenCounter")
        cluster.kill(0)
    with concoord.connect(cluster.bootstrap) as c:
        assert c.increment(1) == 8


def test_threads_count_every_call_once_while_the_leader_dies(cluster: Cluster) -> None:
    cluster.start("concoord.object.counter.Counter", 3)
    with Counter(cluster.bootstrap) as c:
        started = threading.Barrier(5)

        def count() -> None:
            started.wait()
            for _ in range(100):
                c.increment()

        threads = [threading.Thread(target=count) for _ in range(4)]
        for thread in threads:
            thread.start()
        started.wait()
        cluster.kill(0)
        for thread in threads:
            thread.join()
        assert c.getvalue() == 400


def test_the_command_ends_by_the_programs_exit_codes() -> None:
    command = [sys.executable, "-m", "concoord"]
    assert subprocess.run([*command, "nonsense"], capture_output=True, check=False).returncode == 2
    version = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
    assert concoord.__version__ in version.stdout
