"""What this process holds of objects that give tokens out: locks, permits and the like."""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from concoord._proxy import Proxy, Session
from concoord.exception import FenceError, LockLost, SessionExpiredError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from concoord._concoord import Client

LOOK_SECONDS = 0.1
"""How often it is looked whether something is lost, where somebody asked to be told."""


RENEWS: dict[str, tuple[str | None, str | None]] = {
    "wait": ("gettoken", None),
    "downgrade": (None, "release_read"),
}
"""What holds under another token afterwards: what tells it, and what gives it back from then on."""


class Hold(NamedTuple):
    """Something that a thread got."""

    token: int
    gives_back: str
    """The method that does."""
    thread: int
    process: int
    losses: int
    """How many sessions were lost before."""


class Holds:
    """All that this process got of an object, through one proxy."""

    def __init__(self, client: Client, ways: dict[str, str]) -> None:
        """Make one that holds nothing; `ways` are methods that get, each with what gives back."""
        self._client = client
        self._ways = ways
        self._backs = frozenset(ways.values())
        self._lock = threading.Lock()
        self._holds: list[Hold] = []
        self._looker: threading.Thread | None = None
        self.on_lost: Callable[[], object] | None = None
        self.lost_event = threading.Event()
        self._told = False

    def call(self, method: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call the object, and keep what comes of it."""
        if method in self._backs:
            return self._give_back(method, args, kwargs)
        self.check()
        if method not in self._ways:
            result = self._client.call(method, *args, **kwargs)
            if method in RENEWS:
                self._renew(method, result)
            return result
        losses = self._client.health()[3]
        token = self._client.call(method, *args, **kwargs)
        if token is False or token is None:
            return False
        hold = Hold(token, self._ways[method], threading.get_ident(), os.getpid(), losses)
        with self._lock:
            self._holds.append(hold)
            self.lost_event.clear()
        self.look()
        return True

    def _renew(self, method: str, result: Any) -> None:
        """Keep the token that a call gave in place of another one."""
        thread = threading.get_ident()
        hold = self._last(lambda hold: hold.thread == thread)
        if hold is None:
            return
        asks, gives_back = RENEWS[method]
        token = result if asks is None else self._client.call(asks)
        if token is not None:
            with self._lock:
                at = self._holds.index(hold)
                back = gives_back or hold.gives_back
                self._holds[at] = hold._replace(token=token, gives_back=back)

    def token(self) -> int:
        """Give the token of what this thread got last; raises what says that it has nothing."""
        self.check()
        hold = self._last(lambda hold: hold.thread == threading.get_ident())
        if hold is None:
            message = "this thread holds nothing that has a token"
            raise RuntimeError(message)
        return hold.token

    def check(self) -> None:
        """Raise `LockLost`, once, if what this thread holds is lost."""
        thread = threading.get_ident()
        lost = [hold for hold in self._all() if hold.thread == thread and self._is_lost(hold)]
        if lost:
            self._lose(lost)

    def is_lost(self) -> bool:
        """Tell whether anything held here is lost, or may be by now."""
        if self.lost_event.is_set():
            return True
        holds = self._all()
        return bool(holds) and (
            self._client.health()[0] == "doubtful" or any(map(self._is_lost, holds))
        )

    def look(self) -> None:
        """Have somebody look whether what is held is lost, if anybody wants to be told."""
        with self._lock:
            wanted = self._told or self.on_lost is not None
            if wanted and self._holds and self._looker is None:
                self._looker = threading.Thread(
                    target=self._look, name="concoord-lost", daemon=True
                )
                self._looker.start()

    def tell(self) -> threading.Event:
        """Give the event that is set when something is lost."""
        self._told = True
        self.look()
        return self.lost_event

    def _look(self) -> None:
        pause = threading.Event()
        while True:
            with self._lock:
                if not self._holds:
                    self._looker = None
                    return
            if self.is_lost():
                self.lost_event.set()
                with self._lock:
                    self._looker = None
                if self.on_lost is not None:
                    self.on_lost()
                return
            pause.wait(LOOK_SECONDS)

    def _give_back(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self.check()
        thread = threading.get_ident()
        hold = self._last(lambda hold: hold.gives_back == method and hold.thread == thread)
        # As in Python, another thread may give back what this one got.
        hold = hold or self._last(lambda hold: hold.gives_back == method)
        if hold is None:
            return self._client.call(method, *args, **kwargs)
        # Under its token: what somebody got after the end of our session is never given back.
        try:
            result = self._client.guarded(self._client, hold.token).call(method, *args, **kwargs)
        except (FenceError, SessionExpiredError):
            self._lose([hold])
        count = kwargs.get("n", args[0] if args else 1)
        others = [each for each in self._all() if each.gives_back == method and each != hold]
        self._drop([hold, *others[: max(0, count - 1)]])
        return result

    def _lose(self, lost: list[Hold]) -> None:
        self._drop(lost)
        self.lost_event.set()
        message = (
            "the session ended that held this, under token "
            f"{lost[-1].token}: others may hold it by now"
        )
        raise LockLost(message)

    def _is_lost(self, hold: Hold) -> bool:
        return self._client.health()[3] != hold.losses

    def _all(self) -> list[Hold]:
        # A forked child holds nothing of what its parent does.
        process = os.getpid()
        with self._lock:
            return [hold for hold in self._holds if hold.process == process]

    def _last(self, wanted: Callable[[Hold], bool]) -> Hold | None:
        return next(filter(wanted, reversed(self._all())), None)

    def _drop(self, holds: list[Hold]) -> None:
        with self._lock:
            for hold in holds:
                with contextlib.suppress(ValueError):
                    self._holds.remove(hold)


class Holder(Proxy):
    """A proxy of something that is acquired and released.

    What it gives out belongs to the session: when that ends, it is released, and who held it gets
    `LockLost` at its next use and at the end of its `with`.
    """

    __slots__ = ("_holds",)

    _ways: ClassVar[dict[str, str]] = {}

    def __init__(
        self,
        bootstrap: str = "",
        timeout: float = 60,
        name: str = "",
        session: Session | None = None,
        on_lost: Callable[[], object] | None = None,
    ) -> None:
        """Connect, as `Proxy` does; `on_lost` is called, in another thread, when it is lost."""
        super().__init__(bootstrap, timeout, name, session)
        self._holds.on_lost = on_lost

    def _use(self, client: Client) -> None:
        self._client = client
        self._holds = Holds(client, self._ways)
        self._call = self._holds.call

    @property
    def token(self) -> int:
        """The fencing token of what this thread holds."""
        return self._holds.token()

    @property
    def lost(self) -> bool:
        """Whether what was held is lost, or may be: the cluster has not answered for so long."""
        return self._holds.is_lost()

    @property
    def lost_event(self) -> threading.Event:
        """Set once what is held is lost, or may be; cleared by the next acquire."""
        return self._holds.tell()

    def __enter__(self) -> int:  # type: ignore[override]
        """Acquire; gives the token."""
        self._call(next(iter(self._ways)))
        return self._holds.token()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Release. Raises `LockLost` if it was lost meanwhile."""
        self._call(self._ways[next(iter(self._ways))])


def token_of(holder: object) -> tuple[Client, int]:
    """Give what is needed to guard calls by what this thread holds."""
    if not isinstance(holder, Holder):
        message = f"calls are guarded by a lock or the like, not by {type(holder).__name__}"
        raise TypeError(message)
    return holder._client, holder._holds.token()  # noqa: SLF001
