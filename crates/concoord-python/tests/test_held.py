"""Locks across processes: who holds, who waits, who has lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from concoord import Session, exception
from concoord.object.lock import Lock as LocalLock
from concoord.proxy.counter import Counter
from concoord.proxy.lock import Lock

if TYPE_CHECKING:
    from cluster import Cluster

COUNTER = "concoord.object.counter.Counter"

HOLDER = """
import sys
from concoord.proxy.counter import Counter
from concoord.proxy.lock import Lock
lock = Lock(sys.argv[1], name="deploy")
counter = Counter(session=lock.session, name="hits")
lock.acquire()
late = counter.guarded_by(lock)
print("held", flush=True)
sys.stdin.readline()
try:
    late.increment()
except Exception as error:
    print(type(error).__name__, flush=True)
try:
    lock.release()
except Exception as error:
    print(type(error).__name__, flush=True)
"""


def hold(bootstrap: str) -> subprocess.Popen[str]:
    """Another process, which holds the lock."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, bootstrap],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout.readline() == "held\n"
    return holder


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


def test_objects_share_a_session_and_are_told_apart_by_their_names(cluster: Cluster) -> None:
    cluster.start(COUNTER)
    with Counter(cluster.bootstrap) as counter:
        counter.increment()
        named = Counter(session=counter.session, name="other")
        assert (counter.getvalue(), named.getvalue()) == (1, 0)
        named.increment(5)
        assert (counter.getvalue(), named.getvalue()) == (1, 5)
        assert named.session.number == counter.session.number
        assert named.session.state == "connected"
    assert named.session.state in ("lost", "none")
    session = Session(cluster.bootstrap)
    assert Counter(session=session, name="other").getvalue() == 5
    session.close()


def test_two_contend_for_a_lock(cluster: Cluster) -> None:
    cluster.start(COUNTER)
    first = Lock(cluster.bootstrap, name="deploy")
    second = Lock(cluster.bootstrap, name="deploy")
    assert first.acquire()
    token = first.token
    assert not second.acquire(blocking=False)
    assert not second.acquire(timeout=0.2)
    got = threading.Event()
    waiter = threading.Thread(target=lambda: second.acquire() and got.set())
    waiter.start()
    first.release()
    assert got.wait(20)
    waiter.join()
    with pytest.raises(RuntimeError, match="holds nothing"):
        _ = second.token  # it is the other thread's
    second.release()
    with first as newer:
        assert newer > token
    with pytest.raises(RuntimeError, match="release unlocked lock"):
        first.release()
    first.close()
    second.close()


def test_guarded_calls_are_refused_once_the_lock_is_released(cluster: Cluster) -> None:
    cluster.start(COUNTER)
    with Counter(cluster.bootstrap) as counter:
        lock = Lock(session=counter.session, name="deploy")
        with lock:
            guarded = counter.guarded_by(lock)
            guarded.increment()
        with pytest.raises(exception.FenceError):
            guarded.increment()
        with pytest.raises(RuntimeError, match="holds nothing"):
            counter.guarded_by(lock)
        assert counter.getvalue() == 1


def test_the_next_gets_the_lock_of_who_was_killed(cluster: Cluster) -> None:
    cluster.start(COUNTER, 1, "--session-timeout", "3")
    holder = hold(cluster.bootstrap)
    lock = Lock(cluster.bootstrap, name="deploy")
    start = time.monotonic()
    holder.kill()
    try:
        assert lock.acquire()
        # A second more than the session, and what a busy machine adds.
        assert time.monotonic() - start < 3 + 1 + 3
    finally:
        end(holder)
        lock.close()


def test_who_stood_still_for_too_long_is_fenced_and_learns_that_it_lost(cluster: Cluster) -> None:
    cluster.start(COUNTER, 1, "--session-timeout", "2")
    holder = hold(cluster.bootstrap)
    lock = Lock(cluster.bootstrap, name="deploy")
    try:
        holder.send_signal(signal.SIGSTOP)
        assert lock.acquire()
        holder.send_signal(signal.SIGCONT)
        holder.stdin.write("go on\n")
        holder.stdin.flush()
        late = holder.stdout.readline().strip()
        assert late in ("FenceError", "SessionExpiredError")
        assert holder.stdout.readline() == "LockLost\n"
        assert Counter(session=lock.session, name="hits").getvalue() == 0
        assert lock.locked()
    finally:
        end(holder)
        lock.close()


def test_a_holder_that_only_reconnects_keeps_the_lock(cluster: Cluster) -> None:
    cluster.start(COUNTER, 3)
    lock = Lock(cluster.bootstrap, name="deploy")
    with lock as token:
        leader = cluster.addresses.index(cluster.status(0)["leader"])
        cluster.kill(leader)
        assert lock.locked()
        assert (lock.token, lock.lost) == (token, False)
        rival = Lock(cluster.bootstrap, name="deploy")
        assert not rival.acquire(blocking=False)
    assert rival.acquire(timeout=20)
    rival.close()
    lock.close()


def test_who_lost_its_session_is_told(cluster: Cluster) -> None:
    cluster.start(COUNTER, 1, "--session-timeout", "2")
    told = threading.Event()
    lock = Lock(cluster.bootstrap, name="deploy", timeout=20, on_lost=told.set)
    lock.acquire()
    assert not lock.lost
    cluster.replicas[0].send_signal(signal.SIGSTOP)
    try:
        assert told.wait(20)
        assert lock.lost
        assert lock.lost_event.is_set()
        assert lock.session.state == "lost"
    finally:
        cluster.replicas[0].send_signal(signal.SIGCONT)
    lock.close()


def test_ctrl_c_leaves_no_ghost_that_waits(cluster: Cluster) -> None:
    cluster.start(COUNTER)
    first = Lock(cluster.bootstrap, name="deploy")
    second = Lock(cluster.bootstrap, name="deploy")
    first.acquire()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        second.acquire()
    timer.join()
    signal.signal(signal.SIGINT, before)
    first.release()
    assert first.acquire(timeout=20), "nobody else waits for it"
    first.release()
    first.close()
    second.close()


def test_a_local_lock_is_as_that_of_threading() -> None:
    lock = LocalLock()
    assert lock.acquire() is True
    assert lock.acquire(blocking=False) is False
    assert lock.acquire(timeout=0.05) is False
    got = threading.Event()

    def take() -> None:
        with lock:
            got.set()

    waiter = threading.Thread(target=take)
    waiter.start()
    lock.release()
    assert got.wait(20)
    waiter.join()
    assert not lock.locked()
    with pytest.raises(RuntimeError, match="release unlocked lock"):
        lock.release()
