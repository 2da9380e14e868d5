"""Calls that travel together, and calls that nobody waits for yet."""

from __future__ import annotations

import asyncio
import importlib
import shutil
import sys
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from concoord import aio
from concoord._generate import main
from concoord.exception import CallTimeoutError, UnreachableError
from concoord.proxy.counter import Counter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cluster import Cluster

COUNTER = "concoord.object.counter.Counter"
HERE = Path(__file__).parent


@pytest.fixture
def counters(cluster: Cluster) -> Cluster:
    cluster.start(COUNTER, 3)
    return cluster


def test_a_batch_takes_effect_in_order_and_gives_its_results_in_order(counters: Cluster) -> None:
    with Counter(counters.bootstrap) as counter:
        with counter.batch() as batch:
            for _ in range(300):
                assert counter.increment() is None
            counter.getvalue()
        assert counter.getvalue() == 300
        assert batch.results[:300] == [None] * 300
        # A read goes past the log: it sees all that was acknowledged before, and maybe more.
        assert 0 <= batch.results[300] <= 300


def test_what_one_call_of_a_batch_raises_stops_no_other(counters: Cluster) -> None:
    with Counter(counters.bootstrap) as counter:
        batch = counter.batch()
        with pytest.raises(TypeError), batch:  # noqa: PT012 - the block's end raises
            counter.increment()
            counter.increment("much")
            counter.increment()
        assert [type(result) for result in batch.results] == [type(None), TypeError, type(None)]
        assert counter.getvalue() == 2
        with pytest.raises(ZeroDivisionError), counter.batch():  # noqa: PT012 - as above
            counter.increment()
            raise ZeroDivisionError
        assert counter.getvalue() == 2


def test_a_batch_is_of_its_thread(counters: Cluster) -> None:
    with Counter(counters.bootstrap) as counter:
        with counter.batch():
            counter.increment()
            seen: list[int] = []
            other = threading.Thread(target=lambda: seen.append(counter.getvalue()))
            other.start()
            other.join()
            assert seen == [0]
        assert counter.getvalue() == 1


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    shutil.copy(HERE / "tencounter.py", tmp_path / "tencounter.py")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("tencounter", None)
    yield tmp_path
    for name in ("tencounter", "tencounterproxy"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("kind", [0, 1, 2, 3])
def test_every_kind_of_proxy_works(cluster: Cluster, folder: Path, kind: int) -> None:
    assert main(["-o", "tencounter.TenCounter", "-p", str(kind)]) == 0
    importlib.invalidate_caches()
    made = importlib.import_module("tencounterproxy").TenCounter
    cluster.start("tencounter.TenCounter", 1, folder=folder)
    with made(cluster.bootstrap) as proxy:
        results = [proxy.increment() for _ in range(10)]
        if kind in (0, 1):
            assert results == list(range(10, 110, 10))
            return
        assert all(isinstance(result, Future) for result in results)
        assert not (kind == 2 and results[0].done())
        assert [result.result(30) for result in results] == list(range(10, 110, 10))


def test_asyncio_awaits_calls(counters: Cluster) -> None:
    async def work() -> None:
        async with aio.Counter(counters.bootstrap) as counter:
            await asyncio.gather(*(counter.increment() for _ in range(500)))
            assert await counter.getvalue() == 500
            with pytest.raises(TypeError):
                await counter.increment("much")

    asyncio.run(work())


def test_a_task_holds_what_another_task_waits_for(counters: Cluster) -> None:
    async def work() -> None:
        lock = aio.Lock(counters.bootstrap, name="a")
        order: list[int] = []

        async def hold(number: int) -> None:
            async with lock as token:
                order.append(token)
                counter = aio.Counter(session=lock, name="held").guarded_by(lock)
                await counter.increment()

        await asyncio.gather(*(hold(number) for number in range(20)))
        assert order == sorted(set(order))
        assert len(order) == 20
        held = aio.Counter(session=lock, name="held")
        assert await held.getvalue() == 20
        await lock.close()

    asyncio.run(work())


def test_a_task_that_is_cancelled_never_gets_it(counters: Cluster) -> None:
    async def work() -> None:
        lock = aio.Lock(counters.bootstrap, name="b")
        await lock.acquire()
        waiting = asyncio.create_task(lock.acquire())
        other = aio.Lock(counters.bootstrap, name="b")
        behind = asyncio.create_task(other.acquire())
        done, _ = await asyncio.wait([waiting, behind], timeout=0.3)
        assert not done
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await lock.release()
        assert await behind
        await lock.close()
        await other.close()

    asyncio.run(work())


def test_a_task_watches_every_change(counters: Cluster) -> None:
    async def work() -> None:
        counter = aio.Counter(counters.bootstrap, name="watched")
        seen: list[int] = []

        async def watch() -> None:
            async for value in counter.watch():
                seen.append(value)
                if value == 50:
                    return

        watching = asyncio.create_task(watch())
        inspected = aio.Counter(session=counter.session, name="watched")
        while (await inspected._call("__concoorddescribe__"))["watchers"] != 1:
            pass
        assert counter.state == "connected"
        for _ in range(50):
            await counter.increment()
        await watching
        assert seen == list(range(1, 51))
        await counter.close()

    asyncio.run(work())


def test_a_task_waits_for_a_predicate(counters: Cluster) -> None:
    async def work() -> None:
        ready = aio.Condition(counters.bootstrap, name="ready")
        found: list[int] = []

        async def put() -> None:
            async with ready:
                found.append(7)
                await ready.notify_all()

        async with ready:
            assert not await ready.wait_for(lambda: bool(found), timeout=0.05)
            putting = asyncio.create_task(put())
            assert await ready.wait_for(lambda: found and found[0]) == 7
        await putting
        await ready.close()

    asyncio.run(work())


def test_a_task_that_is_cancelled_as_it_gets_it_gives_it_back(counters: Cluster) -> None:
    async def work() -> None:
        lock = aio.Lock(counters.bootstrap, name="late")
        other = aio.Lock(counters.bootstrap, name="late")
        await lock.acquire()
        await lock.release()
        # Before the reply is looked at, when it has been, and when the task knows of it.
        for turns in range(4):
            getting = asyncio.create_task(lock.acquire())
            await asyncio.sleep(0)
            # The reply comes, and the loop does not look.
            time.sleep(0.1)  # noqa: ASYNC251
            for _ in range(turns):
                await asyncio.sleep(0)
            if getting.cancel():
                with pytest.raises(asyncio.CancelledError):
                    await getting
            else:
                await lock.release()
            assert await other.acquire(timeout=20), f"a ghost has it after {turns} turns"
            await other.release()
        await lock.close()
        await other.close()

    asyncio.run(work())


def test_ten_thousand_tasks_wait_for_a_lock(counters: Cluster) -> None:
    many = 10_000

    async def work() -> int:
        lock = aio.Lock(counters.bootstrap, name="c", timeout=300)
        await lock.acquire()
        got = 0

        async def wait() -> None:
            nonlocal got
            assert await lock.acquire()
            got += 1
            await lock.release()

        tasks = [asyncio.create_task(wait()) for _ in range(many)]
        inspected = aio.Lock(session=lock, name="c")
        while True:
            said = await inspected._call("__concoorddescribe__")
            if said["parked"] == many:
                break
            await asyncio.sleep(0.05)
        await lock.release()
        await asyncio.gather(*tasks)
        await lock.close()
        return got

    assert asyncio.run(work()) == many


def test_a_call_that_nobody_answers_times_out(counters: Cluster) -> None:
    async def work() -> None:
        counter = aio.Counter(counters.bootstrap, timeout=0.5)
        await counter.increment()
        for replica in counters.replicas:
            replica.kill()
        with pytest.raises((CallTimeoutError, UnreachableError)):
            await counter.increment()

    asyncio.run(work())
