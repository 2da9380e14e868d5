"""Locks across processes: who holds, who waits, who has lost."""

from __future__ import annotations

import asyncio
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from concoord import Session, aio, exception
from concoord._held import Holds
from concoord.object.lock import Lock as LocalLock
from concoord.proxy.condition import Condition
from concoord.proxy.counter import Counter
from concoord.proxy.lock import Lock
from concoord.proxy.semaphore import Semaphore

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


WITHIN = """
import sys
from concoord.proxy.counter import Counter
from concoord.proxy.lock import Lock
def attempt(call):
    try:
        call()
    except Exception as error:
        print(type(error).__name__, flush=True)
    else:
        print("done", flush=True)
lock = Lock(sys.argv[1], name="deploy")
def within():
    with lock:
        print("held", flush=True)
        sys.stdin.readline()
        attempt(lock.locked)
        attempt(lock.locked)
attempt(within)
attempt(lock.release)
"""

ASYNC = """
import asyncio, sys
from concoord.aio import Lock
async def attempt(awaitable):
    try:
        await awaitable
    except Exception as error:
        print(type(error).__name__, flush=True)
    else:
        print("done", flush=True)
async def work():
    lock = Lock(sys.argv[1], name="deploy")
    async def within():
        async with lock:
            print("held", flush=True)
            sys.stdin.readline()
            await attempt(lock.locked())
            await attempt(lock.locked())
    await attempt(within())
    await attempt(lock.release())
asyncio.run(work())
"""


def hold(bootstrap: str, program: str = HOLDER) -> subprocess.Popen[str]:
    """Another process, which holds the lock."""
    holder = subprocess.Popen(
        [sys.executable, "-c", program, bootstrap],
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
    assert named.session.state == "closed"
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


def test_a_semaphore_is_as_the_tutorial_of_2012_shows_it(cluster: Cluster) -> None:
    cluster.start("concoord.object.semaphore.Semaphore")
    semaphore = Semaphore(cluster.bootstrap)
    semaphore.__concoordinit__(2)
    assert [semaphore.acquire(), semaphore.acquire()] == [True, True]
    assert repr(semaphore) == "<DSemaphore count=0>"
    for replica in cluster.replicas:
        replica.kill()
        replica.wait()
    start = time.monotonic()
    assert repr(semaphore) == f"<Semaphore at {cluster.bootstrap}>"
    assert time.monotonic() - start < 5, "it does not wait for what may never come"


def test_guarded_calls_are_refused_once_the_lock_is_released(cluster: Cluster) -> None:
    cluster.start(COUNTER)
    with Counter(cluster.bootstrap) as counter:
        lock = Lock(session=counter.session, name="deploy")
        with lock:
            guarded = counter.guarded_by(lock)
            guarded.increment()
        with pytest.raises(exception.FenceError):
            guarded.increment()
        with pytest.raises(exception.FenceError):
            guarded.getvalue()
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
        assert time.monotonic() - start < 3 + 1, "a second more than the session"
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
        assert holder.stdout.readline() == "FenceError\n"
        assert holder.stdout.readline() == "LockLost\n"
        assert Counter(session=lock.session, name="hits").getvalue() == 0
        assert lock.locked()
    finally:
        end(holder)
        lock.close()


@pytest.mark.parametrize("program", [WITHIN, ASYNC], ids=["with", "async with"])
def test_who_lost_a_lock_never_releases_it_for_who_has_it_now(
    cluster: Cluster, program: str
) -> None:
    cluster.start(COUNTER, 1, "--session-timeout", "2")
    holder = hold(cluster.bootstrap, program)
    rival = Lock(cluster.bootstrap, name="deploy")
    third = Lock(cluster.bootstrap, name="deploy")
    hits = Counter(session=rival.session, name="hits")
    try:
        holder.send_signal(signal.SIGSTOP)
        with rival:
            late = hits.guarded_by(rival)
            holder.send_signal(signal.SIGCONT)
            holder.stdin.write("go on\n")
            holder.stdin.flush()
            said = [holder.stdout.readline().strip() for _ in range(4)]
            assert said == ["LockLost", "done", "LockLost", "RuntimeError"], "once, and at the end"
            late.increment()
            assert not third.acquire(blocking=False), "two would hold it"
    finally:
        end(holder)
        third.close()


def test_a_wait_holds_under_another_token(cluster: Cluster) -> None:
    cluster.start(COUNTER)
    ready = Condition(cluster.bootstrap, name="ready")
    other = Condition(cluster.bootstrap, name="ready")
    hits = Counter(session=ready.session, name="hits")

    def notify() -> None:
        with other:
            other.notify()

    with ready as token, ready:
        before = hits.guarded_by(ready)
        notifier = threading.Thread(target=notify)
        notifier.start()
        assert ready.wait(20)
        assert ready.token > token
        with pytest.raises(exception.FenceError):
            before.increment()
        hits.guarded_by(ready).increment()
    notifier.join()
    with other:
        pass
    ready.close()
    other.close()


def test_a_wait_that_is_given_up_leaves_the_lock_to_others(cluster: Cluster) -> None:
    cluster.start(COUNTER)
    ready = Condition(cluster.bootstrap, name="ready")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt), ready, ready:
        ready.wait()
    timer.join()
    signal.signal(signal.SIGINT, before)
    other = Condition(cluster.bootstrap, name="ready")
    assert other.acquire(timeout=20)
    other.release()
    ready.close()
    other.close()


def test_a_task_that_waits_holds_under_another_token(cluster: Cluster) -> None:
    cluster.start(COUNTER)

    async def work() -> None:
        ready = aio.Condition(cluster.bootstrap, name="ready")
        waiting = asyncio.Event()

        async def wait() -> bool:
            async with ready as token:
                waiting.set()
                assert await ready.wait()
                assert ready.token > token
                return True

        waiter = asyncio.create_task(wait())
        given_up = asyncio.create_task(wait())
        await waiting.wait()
        async with ready:
            pass
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up
        while not waiter.done():
            async with ready:
                await ready.notify()
        assert await waiter
        assert not await ready.locked()
        await ready.close()

    asyncio.run(work())


class Restarted:
    """A client whose session ends while its first call waits."""

    def __init__(self, guard: int | None = None, log: list[str] | None = None) -> None:
        self.log = [] if log is None else log
        self.guard = guard
        self.losses = 0

    def health(self) -> tuple[str, float, int | None, int]:
        return ("connected", 0.0, self.losses + 1, self.losses)

    def guarded(self, holder: Restarted, token: int) -> Restarted:
        return Restarted(token, holder.log)

    def call(self, method: str, *_: object) -> int | None:
        self.log.append(method if self.guard is None else f"{method} under {self.guard}")
        if method == "release":
            return None
        self.losses += len(self.log) == 1
        return len(self.log)


def test_what_was_got_while_a_session_ended_is_given_back_and_got_again() -> None:
    client = Restarted()
    holds = Holds(client, {"acquire": "release"})
    assert holds.call("acquire") is True
    assert client.log == ["acquire", "release under 1", "acquire"]
    assert holds.token() == 3


def test_who_was_told_of_a_loss_and_holds_anew_has_lost_nothing() -> None:
    client = Restarted()
    client.log.append("before")
    holds = Holds(client, {"acquire": "release"})
    assert holds.call("acquire") is True
    client.losses += 1
    assert holds.is_lost()
    with pytest.raises(exception.LockLost):
        holds.check()
    assert holds.call("acquire") is True
    assert not holds.is_lost()
    assert len(holds.ledger.all()) == 1
    holds.call("release")
    assert holds.ledger.all() == []


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


def test_a_session_tells_how_it_is(cluster: Cluster) -> None:
    cluster.start(COUNTER, 1, "--session-timeout", "2")
    session = Session(cluster.bootstrap, timeout=20)
    said: queue.Queue[str] = queue.Queue()
    assert session.state == "none"
    session.on_change(said.put)
    Counter(session=session).increment()
    assert said.get(timeout=20) == "connected"
    assert not session.lost_event.is_set()
    cluster.replicas[0].send_signal(signal.SIGSTOP)
    try:
        heard = [said.get(timeout=20)]
        while heard[-1] != "lost":
            heard.append(said.get(timeout=20))
        assert session.lost_event.wait(20)
    finally:
        cluster.replicas[0].send_signal(signal.SIGCONT)
    assert said.get(timeout=20) in ("connected", "reconnecting")
    session.close()
    while said.get(timeout=20) != "closed":
        pass
    assert session.lost_event.is_set()


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
