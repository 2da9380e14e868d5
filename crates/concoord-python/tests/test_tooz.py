"""The Tooz driver, where Tooz's own tests don't look."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

coordination = pytest.importorskip("tooz.coordination")

if TYPE_CHECKING:
    from collections.abc import Iterator

    from concoord.testing import Cluster
    from concoord.tooz import ConcoordDriver

HOLDER = """
import sys
from tooz import coordination
coordinator = coordination.get_coordinator(sys.argv[1], b"holder")
coordinator.start()
coordinator.join_group_create(b"group")
coordinator.get_lock(b"lock").acquire()
print("held", flush=True)
sys.stdin.readline()
"""


def coordinator(cluster: Cluster, member: bytes) -> ConcoordDriver:
    made = coordination.get_coordinator(f"concoord://{cluster.address}?timeout=20", member)
    made.start()
    return made


@pytest.fixture
def driver(concoord_cluster: Cluster) -> Iterator[ConcoordDriver]:
    made = coordinator(concoord_cluster, b"one")
    yield made
    made.stop()


def test_a_lock_outlives_the_leader(driver: ConcoordDriver, concoord_cluster: Cluster) -> None:
    lock = driver.get_lock(b"lock")
    assert lock.acquire()
    concoord_cluster.leader.kill()
    assert lock.is_still_owner()
    assert lock.acquired
    assert not driver.get_lock(b"lock").acquire(blocking=False)
    assert lock.release()
    assert not lock.acquired


def test_tokens_grow_from_holder_to_holder(driver: ConcoordDriver) -> None:
    first, second = driver.get_lock(b"lock"), driver.get_lock(b"lock")
    with first:
        before = first.token
    with second:
        assert second.token > before
    with pytest.raises(RuntimeError, match="not acquired"):
        _ = second.token


def test_waiting_ends_in_time(driver: ConcoordDriver) -> None:
    with driver.get_lock(b"lock"):
        assert not driver.get_lock(b"lock").acquire(blocking=0.1)
        assert not driver.get_lock(b"lock").acquire(timeout=0.1)


def test_whoever_dies_loses_lock_and_membership(
    driver: ConcoordDriver, concoord_cluster: Cluster
) -> None:
    url = f"concoord://{concoord_cluster.address}"
    command = [sys.executable, "-c", HOLDER, url]
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        assert driver.get_members(b"group").get() == {b"holder"}
        holder.kill()
    assert driver.get_lock(b"lock").acquire(timeout=40)
    assert driver.get_members(b"group").get() == set()


def test_none_joins_a_group_that_is_deleted(
    driver: ConcoordDriver, concoord_cluster: Cluster
) -> None:
    other = coordinator(concoord_cluster, b"two")
    for _ in range(20):
        driver.create_group(b"group").get()
        start = threading.Barrier(2)

        def join(start: threading.Barrier = start) -> None:
            start.wait()
            other.join_group(b"group").get()

        joined = _Outcome(join)
        start.wait()
        deleted = _Outcome(lambda: driver.delete_group(b"group").get())
        outcomes = (joined.get(), deleted.get())
        if outcomes[0] is None:
            assert isinstance(outcomes[1], coordination.GroupNotEmpty)
            assert driver.get_members(b"group").get() == {b"two"}
            other.leave_group(b"group").get()
            driver.delete_group(b"group").get()
        else:
            assert isinstance(outcomes[0], coordination.GroupNotCreated)
            assert outcomes[1] is None
    other.stop()


class _Outcome:
    """What a function raises in a thread of its own, or None."""

    def __init__(self, function: object) -> None:
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=[function])
        self._thread.start()

    def _run(self, function: object) -> None:
        try:
            function()
        except coordination.ToozError as error:
            self._error = error

    def get(self) -> BaseException | None:
        self._thread.join()
        return self._error
