"""Sessions, which proxies may share, and how they are."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from typing import TYPE_CHECKING, ClassVar

from concoord._concoord import Client

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self

LOOK_SECONDS = 0.1
"""How often it is looked how a session is, where somebody asked to be told."""


class Session:
    """A session with a cluster, which any number of proxies may share.

    It keeps itself alive in the background. When it ends, by `close` or by a silence that is too
    long, the cluster releases what was held in it.
    """

    __slots__ = ("_client",)

    def __init__(self, bootstrap: str, timeout: float = 60) -> None:
        """Connect to the replicas at `bootstrap`, as a proxy does."""
        self._client = Client(bootstrap, timeout, None)

    @classmethod
    def _of(cls, client: Client) -> Self:
        session = cls.__new__(cls)
        session._client = client  # noqa: SLF001
        return session

    @property
    def state(self) -> str:
        """How it is, in words.

        `"connected"`; `"reconnecting since 1.5 s"`; `"lost"`, also if it only may be: the cluster
        has not answered for as long as a session may be silent; `"none"` before the first call;
        `"closed"`.
        """
        word, seconds = _word(self._client)
        return f"{word} since {seconds:.1f} s" if word == "reconnecting" else word

    def on_change(self, callback: Callable[[str], object]) -> None:
        """Call `callback`, in another thread, with each state that the session comes to.

        That is a word as of `state`; `"closed"` is the last. It is looked at ten times a second,
        so one that lasts for less may be passed over. Raise nothing in it.
        """
        _Watch.of(self._client).callbacks.append(callback)

    @property
    def lost_event(self) -> threading.Event:
        """Set while the session is lost, or may be."""
        return _Watch.of(self._client).lost

    @property
    def number(self) -> int | None:
        """Its number in the cluster; `None` while there is none."""
        return self._client.health()[2]

    def close(self) -> None:
        """End it, for all proxies that share it."""
        self._client.close()

    def __repr__(self) -> str:
        """Say with whom, and how it is."""
        return f"<Session at {self._client.bootstrap}: {self.state}>"


def _word(client: Client) -> tuple[str, float]:
    state, seconds, _, losses = client.health()
    lost = state == "doubtful" or (state == "none" and losses)
    return ("lost" if lost else state), seconds


class _Watch:
    """Somebody who looks how the session of a client is, as long as there is that client."""

    _all: ClassVar[weakref.WeakKeyDictionary[Client, _Watch]] = weakref.WeakKeyDictionary()
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, client: Client) -> None:
        self.callbacks: list[Callable[[str], object]] = []
        self.lost = threading.Event()
        self.process = os.getpid()
        self._client = weakref.ref(client)
        self._before, _ = _word(client)
        self._losses = client.health()[3]
        self._note(self._before)
        threading.Thread(target=self._look, name="concoord-session", daemon=True).start()

    @classmethod
    def of(cls, client: Client) -> _Watch:
        with cls._lock:
            found = cls._all.get(client)
            if found is None or found.process != os.getpid():
                found = cls._all[client] = cls(client)
            return found

    def _look(self) -> None:
        pause = threading.Event()
        while self._before != "closed":
            pause.wait(LOOK_SECONDS)
            client = self._client()
            if client is None:
                return
            word, _ = _word(client)
            losses = client.health()[3]
            del client
            if losses > self._losses and word != "closed" and self._before != "lost":
                # There may be another session already: that does not make it good.
                self._tell("lost")
            self._losses = losses
            if word != self._before:
                self._tell(word)

    def _tell(self, word: str) -> None:
        self._before = word
        self._note(word)
        for callback in self.callbacks:
            with contextlib.suppress(Exception):
                callback(word)

    def _note(self, word: str) -> None:
        (self.lost.set if word in ("lost", "closed") else self.lost.clear)()
