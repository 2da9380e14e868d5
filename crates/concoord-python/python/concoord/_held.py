"""What this process holds of objects that give tokens out: locks, permits and the like."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from concoord._proxy import Proxy, Session
from concoord.exception import (
    CallTimeoutError,
    FenceError,
    LockLost,
    RefusedError,
    SessionExpiredError,
    UnreachableError,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from concoord._concoord import Client

LOOK_SECONDS = 0.1
"""How often it is looked whether something is lost, where somebody asked to be told."""


ALL = "release_all"
"""What gives back all that the caller has of an object."""


class Renewal(NamedTuple):
    """A call after which what is held is held under another token."""

    asks: str | None
    """What tells the token; `None` where the call itself returns it."""
    gives_back: str | None
    """What gives it back from then on, if something else does."""
    undo: str
    """What gives all back where the call was given up."""
    always: bool
    """Whether that is so too where the call was never made."""


RENEWS = {
    "wait": Renewal("gettoken", None, ALL, always=True),
    "downgrade": Renewal(None, "release_read", "release_read", always=False),
}

UNANSWERED = "its release was not answered"
"""Why something is held no more: what releases it is made, if the session lives."""

ONCE = {"resign"}
"""What gives back at once all that the caller got, however often it did."""

KEPT = (RuntimeError, ValueError, TypeError, OverflowError, RefusedError)
"""What a call raises that has neither got nor given anything."""


def undoes(ways: dict[str, str], methods: set[str]) -> dict[str, tuple[str, bool]]:
    """Give what the client calls where a call is given up, and whether always."""
    renewals = {method: renewal for method, renewal in RENEWS.items() if method in methods}
    got = {method: (gives_back, False) for method, gives_back in ways.items()}
    return got | {method: (each.undo, each.always) for method, each in renewals.items()}


_NUMBERS = itertools.count()
"""Holds in the order of getting them."""


class Hold:
    """Something that a caller got, or lost since."""

    __slots__ = ("caller", "gives_back", "number", "over", "process", "session", "token", "told")

    def __init__(
        self, token: int, gives_back: str, caller: int, session: tuple[int, int | None]
    ) -> None:
        """Hold under a token what `gives_back` will give back."""
        self.token: int | None = token
        """`None` once it is held under another one that nobody has asked for yet."""
        self.gives_back = gives_back
        self.caller = caller
        self.session = session
        """In which session: how many were lost before, and its number."""
        self.number = next(_NUMBERS)
        self.process = os.getpid()
        self.over = ""
        """Why it is held no more, where that is known."""
        self.told = False
        """Whether its caller was told that it is lost."""


class Ledger:
    """Who holds what of an object, through one proxy.

    What is lost stays until its caller gives it back: if it were forgotten before, that would
    release what another one holds by then.
    """

    def __init__(self, client: Client) -> None:
        """Begin with nothing."""
        self._client = client
        self._lock = threading.Lock()
        self._holds: list[Hold] = []

    def session(self) -> tuple[int, int | None]:
        """Give which session there is."""
        _, _, number, losses = self._client.health()
        return losses, number

    def got(self, token: int, gives_back: str, caller: int) -> Hold:
        """Keep that a caller got something just now."""
        hold = Hold(token, gives_back, caller, self.session())
        last = self.last(caller)
        if gives_back in ONCE and last and (last.token, last.session) == (token, hold.session):
            return last
        with self._lock:
            # Who gets something anew will not give back what it was told is lost.
            mine = [each for each in self._holds if each.caller == caller and each.told]
            self._holds = [*(each for each in self._holds if each not in mine), hold]
        return hold

    def last(self, caller: int) -> Hold | None:
        """Give what a caller got last, lost or not."""
        mine = (hold for hold in reversed(self.all()) if hold.caller == caller)
        return next(mine, None)

    def token(self, caller: int) -> int | None:
        """Give the token of what a caller got last; `None` where it has to be asked for."""
        self.check(caller)
        hold = self.last(caller)
        if hold is None or self.is_over(hold):
            message = "this caller holds nothing that has a token"
            raise RuntimeError(message)
        return hold.token

    def check(self, caller: int) -> None:
        """Raise `LockLost`, once, if what a caller holds is lost."""
        news = [hold for hold in self.all() if hold.caller == caller and not hold.told]
        news = self.over(news)
        for hold in news:
            hold.told = True
        if news:
            raise lost(news)

    def over(self, holds: list[Hold]) -> list[Hold]:
        """Give those that are held no more, as far as is known here."""
        session = self.session() if holds else (0, None)
        return [hold for hold in holds if hold.over or hold.session != session]

    def is_over(self, hold: Hold) -> bool:
        """Tell whether that is held no more, as far as is known here."""
        return bool(self.over([hold]))

    def may_be_lost(self) -> bool:
        """Tell whether anything is lost, or may be by now."""
        # Who was told of a loss knows.
        holds = [hold for hold in self.all() if not hold.told]
        return bool(holds) and (self._client.health()[0] == "doubtful" or bool(self.over(holds)))

    def take(self, gives_back: str, caller: int, count: int = 1) -> tuple[list[Hold], list[Hold]]:
        """Take out what a caller is about to give back: what is held, and what is lost.

        As in Python, one may give back what another got: but only what that still holds.
        """
        everything = [hold for hold in reversed(self.all()) if hold.gives_back == gives_back]
        own = [hold for hold in everything if hold.caller == caller]
        over = self.over(everything)
        others = [hold for hold in everything if hold not in own and hold not in over]
        taken = [hold for hold in [*own, *others][: max(1, count)] if self.drop(hold)]
        held = [hold for hold in taken if hold not in over]
        return held, [hold for hold in taken if hold in over]

    def take_all(self, caller: int) -> tuple[list[Hold], list[Hold]]:
        """Take out all that a caller has, to give it back at once."""
        taken = [hold for hold in self.all() if hold.caller == caller and self.drop(hold)]
        over = self.over(taken)
        return [hold for hold in taken if hold not in over], over

    def drop(self, hold: Hold) -> bool:
        """Forget that; false if somebody has."""
        with self._lock:
            if hold not in self._holds:
                return False
            self._holds.remove(hold)
            return True

    def put_back(self, holds: list[Hold], over: str = "") -> None:
        """Keep what was taken out after all; where it is `over`, for its caller to take out."""
        for hold in holds:
            hold.over, hold.told = over, bool(over)
        with self._lock:
            self._holds = sorted([*self._holds, *holds], key=lambda hold: hold.number)

    def forgo(self, caller: int, why: str) -> None:
        """Keep that a caller holds nothing any more of what it had."""
        for hold in self.all():
            if hold.caller == caller and not hold.over:
                hold.over, hold.told = why, True

    def renew(self, caller: int, token: int | None, gives_back: str | None) -> None:
        """Keep that a caller holds all it had under another token, or the last in another way."""
        mine = [hold for hold in self.all() if hold.caller == caller and not hold.over]
        for hold in mine[-1:] if gives_back else mine:
            hold.token, hold.gives_back = token, gives_back or hold.gives_back

    def all(self) -> list[Hold]:
        """Give all, the oldest first. A forked child holds nothing of what its parent does."""
        process = os.getpid()
        with self._lock:
            return [hold for hold in self._holds if hold.process == process]


def lost(holds: list[Hold]) -> LockLost:
    """Make what is raised where those are lost."""
    what = f"what was held under token {holds[-1].token} is held no more"
    return LockLost(
        f"{what}: {holds[-1].over or 'its session ended, or somebody else gave it back'}"
        "; others may hold it by now"
    )


def count_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    """Give how much a call gives back."""
    count = kwargs.get("n", args[0] if args else 1)
    return count if isinstance(count, int) else 1


class Holds:
    """What the threads of this process got of an object."""

    def __init__(self, client: Client, ways: dict[str, str]) -> None:
        """Make one that holds nothing; `ways` are methods that get, each with what gives back."""
        self._client = client
        self._ways = ways
        self._backs = frozenset((*ways.values(), ALL))
        self._lock = threading.Lock()
        self._looker: threading.Thread | None = None
        self.ledger = Ledger(client)
        self.on_lost: Callable[[], object] | None = None
        self.lost_event = threading.Event()
        self._told = False

    def call(self, method: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call the object, and keep what comes of it."""
        if method in self._backs:
            return self._give_back(method, args, kwargs)
        try:
            self.check()
            if method in self._ways:
                return self.get(method, args, kwargs) is not None
            renews = method in RENEWS
            plain = self._client.call
            result = self._renew(method, args, kwargs) if renews else plain(method, *args, **kwargs)
            # It may have been made in another session than that which was there before.
            self.check()
            return result
        except SessionExpiredError:
            self.check()
            raise

    def check(self) -> None:
        """Raise `LockLost`, once, if what this thread holds is lost."""
        try:
            self.ledger.check(threading.get_ident())
        except LockLost:
            self.lost_event.set()
            raise

    def get(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Hold | None:
        """Acquire; `None` where it was not to be had."""
        caller = threading.get_ident()
        while True:
            before, _ = self.ledger.session()
            token = self._client.call(method, *args, **kwargs)
            if token is False or token is None:
                return None
            hold = self.ledger.got(token, self._ways[method], caller)
            if hold.session[0] == before:
                with self._lock:
                    self.lost_event.clear()
                self.look()
                return hold
            # A session ended meanwhile, and nobody knows whether this was got before or after.
            self.ledger.drop(hold)
            with contextlib.suppress(FenceError, SessionExpiredError):
                self._guarded(token).call(hold.gives_back)

    def _guarded(self, token: int) -> Client:
        return self._client.guarded(self._client, token)

    def _renew(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        renewal, caller = RENEWS[method], threading.get_ident()
        try:
            result = self._client.call(method, *args, **kwargs)
        except KEPT:
            raise
        except BaseException:
            self.ledger.forgo(caller, f"{method} was given up, and with it what was held")
            raise
        self.ledger.renew(caller, None if renewal.asks else result, renewal.gives_back)
        return result

    def token(self) -> int:
        """Give the token of what this thread got last; raises what says that it has nothing."""
        caller = threading.get_ident()
        token = self.ledger.token(caller)
        if token is None:
            token = self._client.call("gettoken")
            self.ledger.renew(caller, token, None)
            # Asked in another session, it would be another's.
            token = self.ledger.token(caller)
        if token is None:
            message = "this thread holds nothing that has a token"
            raise RuntimeError(message)
        return token

    def is_lost(self) -> bool:
        """Tell whether anything held here is lost, or may be by now."""
        return self.lost_event.is_set() or self.ledger.may_be_lost()

    def look(self) -> None:
        """Have somebody look whether what is held is lost, if anybody wants to be told."""
        with self._lock:
            wanted = self._told or self.on_lost is not None
            # A forked child has no such thread.
            looks = self._looker is not None and self._looker.is_alive()
            if wanted and self.ledger.all() and not looks:
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
                if not self.ledger.all():
                    self._looker = None
                    return
            if self.is_lost():
                with self._lock:
                    self.lost_event.set()
                    self._looker = None
                if self.on_lost is not None:
                    self.on_lost()
                return
            pause.wait(LOOK_SECONDS)

    def _give_back(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        caller, count = threading.get_ident(), count_of(args, kwargs)
        held, over = (
            self.ledger.take_all(caller)
            if method == ALL
            else self.ledger.take(method, caller, count)
        )
        if over and count > len(over):
            args, kwargs = (count - len(over),), {}
        try:
            result = None
            if held:
                # Under its token: what somebody got after the end of our session is never given
                # back.
                result = self._under(held[0], method, args, kwargs)
            elif not over:
                result = self._client.call(method, *args, **kwargs)
        except (FenceError, SessionExpiredError):
            over = held
        except KEPT:
            self.ledger.put_back(held)
            raise
        except (CallTimeoutError, UnreachableError):
            self.ledger.put_back(held, UNANSWERED)
            raise
        if over:
            self.lost_event.set()
            raise lost(over)
        return result

    def end(self, hold: Hold, *, quiet: bool) -> None:
        """Give that very one back; silently, if `quiet`, where its caller gave it up itself."""
        gone = not self.ledger.drop(hold)
        if gone and not self.ledger.is_over(hold):
            message = "it was given back within its `with` already"
            raise RuntimeError(message)
        if not self.ledger.is_over(hold):
            try:
                self._under(hold, hold.gives_back, (), {})
            except (FenceError, SessionExpiredError):
                pass
            else:
                return
        if not (quiet and hold.over):
            self.lost_event.set()
            raise lost([hold])

    def _under(self, hold: Hold, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        token = hold.token
        if token is None:
            token = self._client.call("gettoken")
            if token is None or self.ledger.is_over(hold):
                raise lost([hold])
        return self._guarded(token).call(method, *args, **kwargs)


class Holder(Proxy):
    """A proxy of something that is acquired and released.

    What it gives out belongs to the session: when that ends, it is released, and who held it gets
    `LockLost` at its next use and at the end of its `with`.
    """

    __slots__ = ("_blocks", "_holds")

    _ways: ClassVar[dict[str, str]] = {}
    _undoes: ClassVar[dict[str, tuple[str, bool]]] = {}

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
        self._blocks = threading.local()

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
        self._holds.check()
        hold = self._holds.get(next(iter(self._ways)), (), {})
        if hold is None or hold.token is None:
            message = "it was not to be had"
            raise RuntimeError(message)
        self._entered().append(hold)
        return hold.token

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Release. Raises `LockLost` if it was lost meanwhile."""
        self._holds.end(self._entered().pop(), quiet=error is not None)

    def _entered(self) -> list[Hold]:
        """Give what the `with` blocks of this thread hold, the innermost last."""
        if not hasattr(self._blocks, "holds"):
            self._blocks.holds = []
        holds: list[Hold] = self._blocks.holds
        return holds


def token_of(holder: object) -> tuple[Client, int]:
    """Give what is needed to guard calls by what this thread holds."""
    if not isinstance(holder, Holder):
        message = f"calls are guarded by a lock or the like, not by {type(holder).__name__}"
        raise TypeError(message)
    return holder._client, holder._holds.token()  # noqa: SLF001
