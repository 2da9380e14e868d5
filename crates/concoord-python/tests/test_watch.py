"""Watches of objects, on replicas that die."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import tencounter

import concoord
from concoord.proxy.queue import Queue
from concoord.testing import Cluster

if TYPE_CHECKING:
    from collections.abc import Iterator

TenCounter = concoord.proxy_for(tencounter.TenCounter)


class Watcher(threading.Thread):
    """Takes so many changes of an object."""

    def __init__(self, changes: Iterator[Any], count: int) -> None:
        super().__init__(daemon=True)
        self._changes = changes
        self._count = count
        self.half = threading.Event()
        self.seen: list[Any] = []
        self.start()

    def run(self) -> None:
        for change in self._changes:
            self.seen.append(change)
            if len(self.seen) == self._count // 2:
                self.half.set()
            if len(self.seen) == self._count:
                return

    def all(self) -> list[Any]:
        self.join(30)
        assert not self.is_alive(), f"{len(self.seen)} of {self._count} changes"
        return self.seen


def test_a_watch_gives_every_change_in_order_though_the_leader_dies() -> None:
    with (
        Cluster(3, "tencounter.TenCounter") as cluster,
        TenCounter(cluster.address) as watched,
        TenCounter(cluster.address) as counter,
    ):
        counter.echo("before")
        watchers = [Watcher(watched.watch(), 200) for _ in range(2)]
        for number in range(100):
            counter.echo(number)
        # Nobody who watches is behind: it goes on with what the next leader tells.
        assert all(watcher.half.wait(30) for watcher in watchers)
        cluster.leader.kill()
        for number in range(100, 200):
            assert counter.echo(number, by="hand") == [(number,), {"by": "hand"}]
            counter.getvalue()  # to read is no change
        changes = [("echo", (number,), {}) for number in range(100)]
        changes += [("echo", (number,), {"by": "hand"}) for number in range(100, 200)]
        assert watchers[0].all() == changes
        assert watchers[1].all() == changes


def test_a_watch_that_is_behind_catches_up_though_the_leader_dies() -> None:
    with (
        Cluster(3) as cluster,
        Queue(cluster.address, name="q") as watched,
        Queue(cluster.address, name="q") as queue,
    ):
        changes = watched.watch()
        for number in range(50):
            queue.put(number)
        cluster.leader.kill()
        queue.put(50)
        # All of it was before the first is asked for.
        assert Watcher(changes, 51).all() == [("put", size) for size in range(1, 52)]
