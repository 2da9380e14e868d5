"""The proxies for asyncio: `await` each call.

>>> from concoord.aio import Counter, Lock
>>> async def work():
...     async with Lock("127.0.0.1:14000", name="deploy") as token:
...         hits = Counter("127.0.0.1:14000", name="hits")
...         await hits.increment()

Each ready-made class is here under its own name; `proxy_for` makes the proxy of any other class. A
caller is a task: what one acquires another one does not hold. A task that is cancelled while its
call waits waits no more, and gives back what it got too late.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import itertools
import time
import weakref
from typing import TYPE_CHECKING, Any, ClassVar

from concoord._concoord import Client, Gather, stock_interface
from concoord._held import ALL, KEPT, RENEWS, UNANSWERED, Hold, Ledger, count_of, lost
from concoord._interface import interface_of, told
from concoord._proxy import SESSION_ENDED, WATCH, class_from
from concoord._session import Session
from concoord._stock import WAYS, with_ways
from concoord.exception import (
    CallTimeoutError,
    ConcoordError,
    FenceError,
    SessionExpiredError,
    UnreachableError,
    WatchLostError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from types import TracebackType

    from typing_extensions import Self

    from concoord._concoord import Started

__all__ = ["Holder", "Proxy", "proxy_for"]


class Loop:
    """What came of calls, for one event loop."""

    _all: ClassVar[weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Loop]] = (
        weakref.WeakKeyDictionary()
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have the loop look when there is something: once for all that has come."""
        self.gather = Gather()
        self._futures: dict[int, asyncio.Future[Any]] = {}
        self._crossed: dict[int, Any] = {}
        self._late: dict[int, Callable[[Any], None]] = {}
        self._numbers = itertools.count(1)
        loop.add_reader(self.gather.fileno(), self._take)

    @classmethod
    def running(cls) -> Loop:
        """Give that of the running loop."""
        loop = asyncio.get_running_loop()
        if loop not in cls._all:
            cls._all[loop] = cls(loop)
        return cls._all[loop]

    def begin(self) -> tuple[int, asyncio.Future[Any]]:
        """Give a number out, and what will come of it."""
        number = next(self._numbers)
        future = asyncio.get_running_loop().create_future()
        self._futures[number] = future
        return number, future

    def give_back(self, number: int, undo: Callable[[Any], None]) -> None:
        """Have what a call returned given back that its task has given up, and that has ended."""
        if number in self._crossed:
            undo(self._crossed.pop(number))
        elif self._futures.pop(number, None) is not None:
            self._late[number] = undo

    def forget(self, number: int) -> None:
        """Nobody waits for that any more."""
        self._futures.pop(number, None)
        self._crossed.pop(number, None)

    def _take(self) -> None:
        for number, raised, what in self.gather.take():
            future = self._futures.pop(number, None)
            if future is None:
                undo = self._late.pop(number, None)
                if undo is not None and not raised:
                    undo(what)
            elif future.done():
                # Its task was cancelled, and is about to come to that.
                self._crossed[number] = None if raised else what
            elif raised:
                future.set_exception(what)
            else:
                future.set_result(what)


_tasks: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
_callers = itertools.count(1)


def _caller() -> int:
    """Give the number of the running task, as objects see it."""
    task = asyncio.current_task()
    if task not in _tasks:
        _tasks[task] = next(_callers)
    return _tasks[task]


async def call(
    client: Client,
    method: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    caller: int | None = None,
    undo: Callable[[Any], None] | None = None,
) -> Any:
    """Call an object, without a thread that waits, as the running task or that caller.

    `undo` gives back what it returned where its task was cancelled just then.
    """
    loop = Loop.running()
    number, future = loop.begin()
    started: list[Started] = []
    try:
        caller = _caller() if caller is None else caller
        started = client.start(loop.gather, caller, [(number, method, args, kwargs or None)])
        return await future
    except BaseException:
        is_given_up = all(client.give_up(each) for each in started)
        if undo is not None and not is_given_up:
            if future.done() and not future.cancelled():
                if future.exception() is None:
                    undo(future.result())
            else:
                loop.give_back(number, undo)
        loop.forget(number)
        raise


class Proxy:
    """An object on replicas, each of whose methods is awaited."""

    __slots__ = ("__weakref__", "_client")

    _class: ClassVar[str] = ""

    def __init__(
        self, bootstrap: str = "", timeout: float = 60, name: str = "", session: Any = None
    ) -> None:
        """Name the replicas; they are connected to by the first call.

        `session` is a `Session`, or another proxy of this module whose session this one shares.
        """
        if session is None:
            self._client = Client.lazy(bootstrap, timeout, type(self), name)
        else:
            self._client = session._client.object(type(self), name)  # noqa: SLF001 - one of ours

    def _call(self, method: str, /, *args: Any, **kwargs: Any) -> Any:
        return call(self._client, method, args, kwargs)

    def guarded_by(self, holder: Holder) -> Self:
        """Give a proxy whose calls run only while this task holds what it holds now."""
        made = type(self).__new__(type(self))
        made._client = self._client.guarded(holder._client, holder.token)  # noqa: SLF001 - ours
        return made

    async def watch(self) -> AsyncIterator[Any]:
        """Give every change of the object from now on, in order, and wait for more.

        As that of threads; it begins with the first step of the `async for`.
        """
        watcher = next(_callers)

        async def ask(*args: object) -> Any:
            return await call(self._client, WATCH, args, {}, watcher)

        after = await ask()
        try:
            while True:
                for step, changes in await ask(after):
                    after = step
                    for change in changes:
                        yield change
        except SessionExpiredError as error:
            raise WatchLostError(SESSION_ENDED) from error
        finally:
            with contextlib.suppress(ConcoordError):
                await ask(False)

    @property
    def session(self) -> Session:
        """The session, for other proxies to share and to see how it is."""
        return Session._of(self._client)  # noqa: SLF001 - ours

    @property
    def state(self) -> str:
        """How the session is, in the words of `Session.state`."""
        return self.session.state

    async def close(self) -> None:
        """End the session: what is held is released."""
        await asyncio.get_running_loop().run_in_executor(None, self._client.close)

    async def __aenter__(self) -> Any:
        """Use the proxy for the length of an `async with`."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the session."""
        await self.close()

    def __repr__(self) -> str:
        """Say what is called where."""
        return f"<{type(self).__name__} at {self._client.bootstrap}>"


class Holder(Proxy):
    """A proxy of something that is acquired and released, by tasks.

    As with that of threads, what is lost raises `LockLost` at the next use and at the end of its
    `async with`. A condition's `wait` that is cancelled does not get the lock back.
    """

    __slots__ = ("_blocks", "_ledger")

    _ways: ClassVar[dict[str, str]] = {}
    _undoes: ClassVar[dict[str, tuple[str, bool]]] = {}

    def __init__(
        self, bootstrap: str = "", timeout: float = 60, name: str = "", session: Any = None
    ) -> None:
        """Name the replicas, as `Proxy` does."""
        super().__init__(bootstrap, timeout, name, session)
        self._ledger = Ledger(self._client)
        self._blocks: dict[int, list[Hold]] = {}

    async def _call(self, method: str, /, *args: Any, **kwargs: Any) -> Any:
        if method in self._ways.values() or method == ALL:
            return await self._give_back(method, args, kwargs)
        caller = _caller()
        try:
            self._ledger.check(caller)
            if method in self._ways:
                return await self._get(method, args, kwargs) is not None
            if method in RENEWS:
                result = await self._renew(method, args, kwargs)
            else:
                result = await call(self._client, method, args, kwargs)
            # It may have been made in another session than that which was there before.
            self._ledger.check(caller)
            return result
        except SessionExpiredError:
            self._ledger.check(caller)
            raise

    async def _get(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Hold | None:
        while True:
            before, _ = self._ledger.session()
            undo = self._undo(self._ways[method])
            token = await call(self._client, method, args, kwargs, undo=undo)
            if token is False or token is None:
                return None
            hold = self._ledger.got(token, self._ways[method], _caller())
            if hold.session[0] == before:
                return hold
            # A session ended meanwhile, and nobody knows whether this was got before or after.
            self._ledger.drop(hold)
            with contextlib.suppress(FenceError, SessionExpiredError):
                await self._under(hold, hold.gives_back, (), {})

    async def _renew(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        renewal, caller = RENEWS[method], _caller()
        try:
            undo = self._undo(renewal.undo, always=renewal.always)
            result = await call(self._client, method, args, kwargs, undo=undo)
        except KEPT:
            raise
        except BaseException:
            self._ledger.forgo(caller, f"{method} was given up, and with it what was held")
            raise
        token = None if renewal.asks else result
        self._ledger.renew(caller, token, renewal.gives_back)
        if renewal.asks:
            # `token` is no call: it has to be there.
            token = await call(self._client, renewal.asks, (), {})
            self._ledger.renew(caller, token, None)
        return result

    def _undo(self, gives_back: str, *, always: bool = False) -> Callable[[Any], None]:
        """Make what gives back what this task has got and given up; nobody waits for that."""
        caller = _caller()

        def undo(got: Any) -> None:
            if not always and (got is None or got is False):
                return
            client = self._client if always else self._client.guarded(self._client, got)
            loop = Loop.running()
            number, _ = loop.begin()
            loop.forget(number)
            client.start(loop.gather, caller, [(number, gives_back, (), None)])

        return undo

    async def _give_back(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        caller, count = _caller(), count_of(args, kwargs)
        take_all = method == ALL
        held, over = (
            self._ledger.take_all(caller) if take_all else self._ledger.take(method, caller, count)
        )
        if over and count > len(over):
            args, kwargs = (count - len(over),), {}
        try:
            result = None
            if held:
                result = await self._under(held[0], method, args, kwargs)
            elif not over:
                result = await call(self._client, method, args, kwargs)
        except (FenceError, SessionExpiredError):
            over = held
        except KEPT:
            self._ledger.put_back(held)
            raise
        except (CallTimeoutError, UnreachableError):
            self._ledger.put_back(held, UNANSWERED)
            raise
        if over:
            raise lost(over)
        return result

    async def _under(
        self, hold: Hold, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Call under its token: what somebody got after our session's end is never given back."""
        token = hold.token
        if token is None:
            token = await call(self._client, "gettoken", (), {})
            if token is None or self._ledger.is_over(hold):
                raise lost([hold])
        return await call(self._client.guarded(self._client, token), method, args, kwargs)

    @property
    def token(self) -> int:
        """The fencing token of what this task holds."""
        token = self._ledger.token(_caller())
        if token is None:
            message = "this task holds nothing that has a token"
            raise RuntimeError(message)
        return token

    @property
    def lost(self) -> bool:
        """Whether anything held is lost, or may be: the cluster has not answered for so long."""
        return self._ledger.may_be_lost()

    async def __aenter__(self) -> int:
        """Acquire; gives the token."""
        self._ledger.check(_caller())
        hold = await self._get(next(iter(self._ways)), (), {})
        if hold is None or hold.token is None:
            message = "it was not to be had"
            raise RuntimeError(message)
        self._blocks.setdefault(_caller(), []).append(hold)
        return hold.token

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Release. Raises `LockLost` if it was lost meanwhile."""
        holds = self._blocks[_caller()]
        hold = holds.pop()
        if not holds:
            del self._blocks[_caller()]
        gone = not self._ledger.drop(hold)
        if not self._ledger.is_over(hold):
            if gone:
                message = "it was given back within its `async with` already"
                raise RuntimeError(message)
            try:
                await self._under(hold, hold.gives_back, (), {})
            except (FenceError, SessionExpiredError):
                pass
            else:
                return
        if not (error is not None and hold.over):
            raise lost([hold])


class ConditionHolder(Holder):
    """A holder of a condition's lock."""

    __slots__ = ()

    async def wait_for(self, predicate: Callable[[], Any], timeout: float | None = None) -> Any:
        """Wait until `predicate`, which is called here, returns something true.

        Stop after `timeout` seconds. Return what it returned last. The lock must be held, as for
        `wait`, and is while the predicate runs.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while not (result := predicate()):
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                break
            await self._call("wait", left)
        return result


def proxy_for(cls: type) -> Any:
    """Make the proxy class of a class, whose methods are awaited."""
    return class_from(interface_of(cls), Proxy, __name__)


def __getattr__(name: str) -> Any:
    """Make the proxy of a ready-made class when it is first asked for."""
    module = f"concoord.object.{name.lower()}"
    if not name[:1].isupper():
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    try:
        importlib.import_module(module)
        interface = told(stock_interface(f"{module}.{name}"))
    except (ImportError, LookupError) as error:
        message = f"{name} does not come with concoord"
        raise AttributeError(message) from error
    base: type = Proxy
    if name in WAYS:
        holder = ConditionHolder if name == "Condition" else Holder
        base = with_ways(holder, name, interface)
    made = class_from(interface, base, __name__)
    globals()[name] = made
    return made
