"""Calls that nobody waits for yet: batches, and proxies whose methods return futures."""

from __future__ import annotations

import os
import select
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, NamedTuple

from concoord._concoord import Gather
from concoord._proxy import Proxy

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from concoord._concoord import Client

BATCH_CALLS_MAX = 1000
"""Calls that a proxy of client-side batching keeps back at most."""


class Asked(NamedTuple):
    """A call that is to be made."""

    method: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class Hub:
    """The thread that ends the futures of this process."""

    def __init__(self) -> None:
        """Start it."""
        self.process = os.getpid()
        self._gather = Gather()
        self._lock = threading.Lock()
        self._futures: dict[int, Future[Any]] = {}
        self._made = 0
        threading.Thread(target=self._run, name="concoord-futures", daemon=True).start()

    def start(self, client: Client, asked: list[Asked]) -> list[Future[Any]]:
        """Make calls; they travel together and take effect in their order."""
        with self._lock:
            first = self._made + 1
            self._made += len(asked)
            futures: list[Future[Any]] = [Future() for _ in asked]
            self._futures.update(enumerate(futures, first))
        calls = [(first + at, *each) for at, each in enumerate(asked)]
        try:
            client.start(self._gather, None, calls)
        except BaseException:
            with self._lock:
                for number, *_ in calls:
                    del self._futures[number]
            raise
        for future in futures:
            # They are on their way: what has begun can't be cancelled.
            future.set_running_or_notify_cancel()
        return futures

    def _run(self) -> None:
        # Not select: a program may have more descriptors than that takes.
        poll = select.poll()
        poll.register(self._gather, select.POLLIN)
        while True:
            poll.poll()
            for number, raised, what in self._gather.take():
                with self._lock:
                    future = self._futures.pop(number)
                if raised:
                    future.set_exception(what)
                else:
                    future.set_result(what)


_hub: Hub | None = None
_hub_lock = threading.Lock()


def hub() -> Hub:
    """Give the hub of this process."""
    global _hub
    with _hub_lock:
        if _hub is None or _hub.process != os.getpid():
            _hub = Hub()
        return _hub


class Batch:
    """The calls that a thread makes of a proxy within a `with`: they travel together at its end.

    Their results are in `results` then, in the order of the calls, an exception where one was
    raised. The first of those is raised at the end of the `with`, when all calls have run.
    """

    def __init__(self, proxy: Proxy) -> None:
        """Gather the calls of this thread."""
        self._proxy = proxy
        self._asked: list[Asked] = []
        self.results: list[Any] = []

    def __enter__(self) -> Self:
        """Begin."""
        _batching(self._proxy).batches[threading.get_ident()] = self
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Make the calls, unless the block raised."""
        batching = _batching(self._proxy)
        del batching.batches[threading.get_ident()]
        if error is not None or not self._asked:
            return
        futures = hub().start(self._proxy._client, self._asked)  # noqa: SLF001 - made for this
        raised = [future.exception() for future in futures]
        self.results = [
            error or future.result() for future, error in zip(futures, raised, strict=True)
        ]
        first = next((error for error in raised if error is not None), None)
        if first is not None:
            raise first

    def add(self, asked: Asked) -> None:
        """Keep a call for later."""
        self._asked.append(asked)


class Batching:
    """What a proxy calls by, once it was used in batches."""

    def __init__(self, call: Any) -> None:
        """Pass calls on to `call`, but for those of threads within a batch."""
        self._call = call
        self.batches: dict[int, Batch] = {}

    def __call__(self, method: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call, or keep the call for later."""
        batch = self.batches.get(threading.get_ident())
        if batch is None:
            return self._call(method, *args, **kwargs)
        return batch.add(Asked(method, args, kwargs))


def _batching(proxy: Proxy) -> Batching:
    with _hub_lock:
        if not isinstance(proxy._call, Batching):  # noqa: SLF001 - made for this
            proxy._call = Batching(proxy._call)  # noqa: SLF001 - as above
        batching: Batching = proxy._call  # noqa: SLF001 - as above
        return batching


class AsyncProxy(Proxy):
    """A proxy whose methods return a `concurrent.futures.Future` each, and wait for nothing.

    Calls of one thread take effect in their order.
    """

    __slots__ = ()

    def _use(self, client: Client) -> None:
        super()._use(client)
        self._call = self._start

    def _start(self, method: str, /, *args: Any, **kwargs: Any) -> Future[Any]:
        return hub().start(self._client, [Asked(method, args, kwargs)])[0]


class Pending(Future[Any]):
    """The result of a call that is kept back until it is asked for."""

    def __init__(self, proxy: BatchProxy) -> None:
        """Belong to a call of that proxy."""
        super().__init__()
        self._proxy = proxy

    def result(self, timeout: float | None = None) -> Any:
        """Return the result; the calls that are kept back are made first."""
        self._proxy.flush()
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return what the call raised; the calls that are kept back are made first."""
        self._proxy.flush()
        return super().exception(timeout)


class BatchProxy(Proxy):
    """A proxy that keeps calls back, to make many of them in one go.

    A method returns a future. The calls are made by `flush`, when a result is asked for, at the
    end of a `with`, and when there are many; they take effect in their order.
    """

    __slots__ = ("_kept", "_lock")

    def _use(self, client: Client) -> None:
        super()._use(client)
        self._lock = threading.Lock()
        self._kept: list[tuple[Asked, Pending]] = []
        self._call = self._keep

    def _keep(self, method: str, /, *args: Any, **kwargs: Any) -> Pending:
        pending = Pending(self)
        with self._lock:
            self._kept.append((Asked(method, args, kwargs), pending))
            is_full = len(self._kept) >= BATCH_CALLS_MAX
        if is_full:
            self.flush()
        return pending

    def flush(self) -> None:
        """Make the calls that are kept back, and do not wait for them."""
        with self._lock:
            kept, self._kept = self._kept, []
        if not kept:
            return
        try:
            futures = hub().start(self._client, [asked for asked, _ in kept])
        except Exception as error:
            for _, pending in kept:
                pending.set_exception(error)
            raise
        for future, (_, pending) in zip(futures, kept, strict=True):
            future.add_done_callback(_passes_on_to(pending))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Make what is kept back, wait for it, and end the session."""
        with self._lock:
            kept = [pending for _, pending in self._kept]
        if error is None:
            self.flush()
            for pending in kept:
                pending.exception()
        super().__exit__(kind, error, traceback)


def _passes_on_to(pending: Pending) -> Any:
    def pass_on(future: Future[Any]) -> None:
        error = future.exception()
        if error is None:
            pending.set_result(future.result())
        else:
            pending.set_exception(error)

    return pass_on
