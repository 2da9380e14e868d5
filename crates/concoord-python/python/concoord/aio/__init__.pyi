# Written by scripts/stubs.py.
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Any

from typing_extensions import Self

from concoord import Session

__all__ = ["Holder", "Proxy", "proxy_for"]

class Proxy:
    def __init__(
        self,
        bootstrap: str = "",
        timeout: float = 60,
        name: str = "",
        session: Session | Proxy | None = None,
    ) -> None:
        """Name the replicas; they are connected to by the first call."""
    def guarded_by(self, holder: Holder) -> Self:
        """Give a proxy whose calls run only while this task holds what it holds now."""
    def watch(self) -> AsyncIterator[Any]:
        """Give every change of the object from now on, in order, and wait for more."""
    @property
    def session(self) -> Session:
        """The session, for other proxies to share and to see how it is."""
    @property
    def state(self) -> str:
        """How the session is, in the words of `Session.state`."""
    async def close(self) -> None:
        """End the session: what is held is released."""
    async def __aenter__(self) -> Any:
        """Use the proxy for the length of an `async with`."""
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the session."""

class Holder(Proxy):
    @property
    def token(self) -> int:
        """The fencing token of what this task holds."""
    @property
    def lost(self) -> bool:
        """Whether anything held is lost, or may be."""
    async def __aenter__(self) -> int:
        """Acquire; gives the token."""

def proxy_for(cls: type) -> Any:
    """Make the proxy class of a class, whose methods are awaited."""

class AtomicLong(Proxy):
    """An int of any size, 0 at first: a Counter."""

    async def __concoordinit__(self, value: int = 0) -> None:
        """Start anew, from `value`."""
    async def increment(self, by: int = 1) -> None:
        """Add `by`."""
    async def decrement(self, by: int = 1) -> None:
        """Subtract `by`."""
    async def getvalue(self) -> int:
        """Return the value."""
    async def get(self) -> int:
        """Return the value."""
    async def set(self, value: int) -> None:
        """Make it `value`."""
    async def increment_and_get(self, by: int = 1) -> int:
        """Add `by` and return the new value."""
    async def decrement_and_get(self, by: int = 1) -> int:
        """Subtract `by` and return the new value."""
    async def get_and_increment(self, by: int = 1) -> int:
        """Add `by` and return the value before."""
    async def get_and_decrement(self, by: int = 1) -> int:
        """Subtract `by` and return the value before."""
    async def add_and_get(self, delta: int) -> int:
        """Add `delta` and return the new value."""
    async def get_and_add(self, delta: int) -> int:
        """Add `delta` and return the value before."""
    async def get_and_set(self, value: int) -> int:
        """Make it `value` and return the value before."""
    async def compare_and_set(self, expected: int, new: int) -> bool:
        """Make it `new` if it is `expected`; return whether it was."""

class AtomicReference(Proxy):
    """One value of any kind, None at first."""

    async def __concoordinit__(self, value: object = None) -> None:
        """Start anew, from `value`."""
    async def get(self) -> Any:
        """Return the value."""
    async def set(self, value: object) -> None:
        """Make it `value`."""
    async def get_and_set(self, value: object) -> Any:
        """Make it `value` and return what it was."""
    async def compare_and_set(self, expected: object, new: object) -> bool:
        """Make it `new` if it is `expected`, in type as well: 1 is neither 1.0 nor True.

        Return whether it was.
        """

class Bank(Proxy):
    """A bank: accounts with a balance each, never below 0."""

    async def __concoordinit__(self) -> None:
        """Start anew, without accounts."""
    async def open(self, accntno: object) -> bool:
        """Open an account with balance 0.0; return False if it is open already."""
    async def close(self, accntno: object) -> bool:  # type: ignore[override]
        """Close an account and return True; raise KeyError if there is none."""
    async def deposit(self, accntno: object, amount: float) -> float:
        """Add `amount` to an account and return its balance."""
    async def debit(self, accntno: object, amount: float) -> float:
        """Take `amount` from an account and return its balance; False if it has less."""
    async def balance(self, accntno: object) -> float:
        """Return the balance of an account."""

class Barrier(Proxy):
    """Where so many callers wait for each other, again and again."""

    async def __concoordinit__(
        self,
        parties: int = 1,
        action: None = None,
        timeout: float | None = None,
        count: int | None = None,
    ) -> None:
        """Start anew, for `parties` callers, and break it for all who wait.

        Their number may also be given as `count`. They wait for `timeout` seconds at most if they
        don't say otherwise. An `action` is for the caller to take that gets the index 0, so it
        must be None.
        """
    async def wait(self, timeout: float | None = None) -> int:
        """Wait until all are there.

        After `timeout` seconds the barrier breaks. Return an index from 0 on, in the order of
        coming. Raise BrokenBarrierError where it breaks, is broken or is reset.
        """
    async def reset(self) -> None:
        """Mend it; raise BrokenBarrierError where one waits."""
    async def abort(self) -> None:
        """Break it."""
    async def parties(self) -> int:
        """How many callers pass together."""
    async def n_waiting(self) -> int:
        """How many wait."""
    async def broken(self) -> bool:
        """Whether it is broken."""

class BinaryTree(Proxy):
    """A binary search tree: values in their order."""

    async def __concoordinit__(self) -> None:
        """Start anew, empty."""
    async def add_node(self, data: object) -> None:
        """Insert `data`; raise TypeError if it does not compare with the rest."""
    async def insert(self, data: object) -> None:
        """Insert `data`; raise TypeError if it does not compare with the rest."""
    async def find(self, data: object) -> bool:
        """Return whether a value equal to `data` is there."""
    async def delete(self, data: object) -> bool:
        """Remove one value equal to `data`; return whether there was one."""
    async def get_min(self) -> Any:
        """Return the least value; raise ValueError if there is none."""
    async def get_max(self) -> Any:
        """Return the greatest value; raise ValueError if there is none."""
    async def get_depth(self) -> int:
        """Return how many levels the balanced tree of its values has."""
    async def get_size(self) -> int:
        """Return how many values there are."""
    async def get_values(self) -> list[Any]:
        """Return the values in their order."""

class BoundedSemaphore(Holder):
    """So many permits and never more; those that a session holds come back when it ends."""

    async def __concoordinit__(self, value: int = 1, count: int | None = None) -> None:
        """Start anew, with `value` permits, which may also be given as `count`.

        Send all who wait away.
        """
    async def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        """Wait for a permit, but for `timeout` seconds at most. Return whether one was got."""
    async def release(self, n: int = 1) -> None:
        """Give back `n` permits; raise ValueError where fewer are held."""
    async def getvalue(self) -> int:
        """Return how many permits nobody holds."""

class Condition(Holder):
    """A condition with a lock of its own, which its holder may acquire again."""

    async def __concoordinit__(self, lock: None = None) -> None:
        """Start anew.

        Send all away who wait for the lock, and raise RuntimeError where one waits to be notified.
        The lock is always the condition's own: `lock` must be None.
        """
    async def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Wait for the lock that the caller may hold already.

        Give up after `timeout` seconds unless that is -1. Return whether it was got.
        """
    async def release(self) -> None:
        """Give the lock back once. Raise RuntimeError if the caller does not hold it."""
    async def wait(self, timeout: float | None = None) -> bool:
        """Give up the lock, which the caller must hold, and wait to be notified.

        Stop waiting after `timeout` seconds. Return whether it was, once the lock is held again:
        under another token.
        """
    async def wait_for(self, predicate: Callable[[], Any], timeout: float | None = None) -> Any:
        """Wait until `predicate`, which is called here, returns something true.

        Stop after `timeout` seconds. Return what it returned last. The lock must be held, as for
        `wait`, and is while the predicate runs.
        """
    async def notify(self, n: int = 1) -> None:
        """Wake the `n` that have waited longest, for the caller's lock."""
    async def notify_all(self) -> None:
        """Wake all that wait, for the caller's lock."""
    async def notifyAll(self) -> None:  # noqa: N802 - the name of 2012
        """Wake all that wait, by the name of 2012."""
    async def locked(self) -> bool:
        """Return whether somebody holds the lock."""
    async def gettoken(self) -> int | None:
        """Return the fencing token of who holds the lock; None if nobody does."""

class CountDownLatch(Proxy):
    """A count that callers wait to see at zero."""

    async def __concoordinit__(self, count: int = 0) -> None:
        """Start anew, from `count`; send all who wait away."""
    async def try_set(self, count: int) -> bool:
        """Set the count, if it is zero; return whether it was."""
    async def count_down(self, n: int = 1) -> int:
        """Subtract `n`, down to zero at most. Return the count."""
    async def wait(self, timeout: float | None = None) -> bool:
        """Wait until the count is zero, but for `timeout` seconds at most.

        Return whether it was.
        """
    async def getcount(self) -> int:
        """Return the count."""

class Counter(Proxy):
    """A counter: an int of any size, 0 at first."""

    async def __concoordinit__(self, value: int = 0) -> None:
        """Start anew, from `value`."""
    async def increment(self, by: int = 1) -> None:
        """Add `by`."""
    async def decrement(self, by: int = 1) -> None:
        """Subtract `by`."""
    async def getvalue(self) -> int:
        """Return the value."""
    async def get(self) -> int:
        """Return the value."""
    async def set(self, value: int) -> None:
        """Make it `value`."""
    async def increment_and_get(self, by: int = 1) -> int:
        """Add `by` and return the new value."""
    async def decrement_and_get(self, by: int = 1) -> int:
        """Subtract `by` and return the new value."""
    async def get_and_increment(self, by: int = 1) -> int:
        """Add `by` and return the value before."""
    async def get_and_decrement(self, by: int = 1) -> int:
        """Subtract `by` and return the value before."""
    async def add_and_get(self, delta: int) -> int:
        """Add `delta` and return the new value."""
    async def get_and_add(self, delta: int) -> int:
        """Add `delta` and return the value before."""
    async def get_and_set(self, value: int) -> int:
        """Make it `value` and return the value before."""
    async def compare_and_set(self, expected: int, new: int) -> bool:
        """Make it `new` if it is `expected`; return whether it was."""

class DelayQueue(Proxy):
    """A queue whose items can be had after a delay."""

    async def __concoordinit__(self) -> None:
        """Start anew, empty; who waits to get or to put goes on in the new queue."""
    async def put(self, item: object, delay: float = 0.0) -> None:
        """Put `item`, to be had after `delay` seconds."""
    async def put_nowait(self, item: object, delay: float = 0.0) -> None:
        """Put `item`, to be had after `delay` seconds."""
    async def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Take the next item and return it.

        If there is none, wait, for `timeout` seconds at most if that is given; raise queue.Empty
        without one then, or at once if not `block`.
        """
    async def get_nowait(self) -> Any:
        """Take the next item, or raise queue.Empty."""
    async def task_done(self) -> None:
        """Say that an item which was taken is done with."""
    async def join(self) -> None:
        """Wait until all that was put has been done with."""
    async def qsize(self) -> int:
        """Return how many items there are."""
    async def empty(self) -> bool:
        """Return whether there is none."""
    async def full(self) -> bool:
        """Return whether there are `maxsize` of them."""

class DoubleBarrier(Proxy):
    """What so many callers enter together and leave together, again and again."""

    async def __concoordinit__(self, parties: int = 1, count: int | None = None) -> None:
        """Start anew, for `parties` callers, which may also be given as `count`.

        Send all who wait away.
        """
    async def enter(self, timeout: float | None = None) -> bool:
        """Wait to enter together, but for `timeout` seconds at most.

        Return whether the caller is within. Raise RuntimeError where it is already.
        """
    async def leave(self, timeout: float | None = None) -> bool:
        """Leave, and wait until all have left, but for `timeout` seconds at most.

        Return whether they have. Raise RuntimeError where the caller is not within.
        """
    async def parties(self) -> int:
        """Return how many callers enter together."""
    async def n_within(self) -> int:
        """Return how many callers are within."""
    async def n_waiting(self) -> int:
        """Return how many callers wait to enter."""

class Election(Holder):
    """Who leads: one candidate at a time, in the order of coming."""

    async def __concoordinit__(self) -> None:
        """Have nobody lead, and send all candidates away."""
    async def campaign(self, value: object = None, timeout: float | None = None) -> bool:
        """Wait to lead, but for `timeout` seconds at most; `value` is what others see.

        Return whether the caller leads. Who leads goes on, with the new value.
        """
    async def proclaim(self, value: object) -> None:
        """Replace the value of who leads. Raise RuntimeError if the caller's session does not."""
    async def resign(self) -> None:
        """Lead no more. Raise RuntimeError if the caller's session does not lead."""
    async def leader(self) -> Any:
        """Return the value of who leads; None if nobody does."""
    async def epoch(self) -> int | None:
        """Return the epoch of who leads; None if nobody does."""
    async def candidates(self) -> list[Any]:
        """Return the values of those who wait to lead, in order."""

class Event(Proxy):
    """A flag that callers wait for, not set at first."""

    async def __concoordinit__(self) -> None:
        """Clear it and send all who wait away."""
    async def set(self) -> None:
        """Set it, and have all who wait return."""
    async def clear(self) -> None:
        """Have those wait who come from now on."""
    async def is_set(self) -> bool:
        """Return whether it is set."""
    async def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, but for `timeout` seconds at most. Return whether it was."""

class JobManager(Proxy):
    """Jobs: dicts, each known by what it has under "id", or that alone."""

    async def __concoordinit__(self) -> None:
        """Start anew, without jobs."""
    async def schedule(self, job: object) -> bool:
        """Add a job; return False if there is one with its id."""
    async def add_job(self, job: object) -> bool:
        """Add a job; return False if there is one with its id."""
    async def deschedule(self, job: object) -> bool:
        """Remove a job and return True; raise KeyError if there is none with its id."""
    async def remove_job(self, job: object) -> bool:
        """Remove a job and return True; raise KeyError if there is none with its id."""
    async def update(self, job: object, key: object, value: object) -> None:
        """Set what a job has under `key`; raise KeyError if there is no such job."""
    async def list_jobs(self) -> list[dict[Any, Any]]:
        """Return the jobs, the first scheduled first."""

class Lock(Holder):
    """A lock, released when the session of its holder ends."""

    async def __concoordinit__(self) -> None:
        """Release it and send all who wait away."""
    async def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Wait for the lock, but for `timeout` seconds at most unless it is -1.

        Return whether it was acquired; `token` is its fencing token then.
        """
    async def release(self) -> None:
        """Hand it to whoever has waited longest."""
    async def locked(self) -> bool:
        """Return whether somebody holds it."""

class LockingQueue(Proxy):
    """A queue whose items are leased until they are consumed."""

    async def __concoordinit__(self) -> None:
        """Start anew, empty; leases are over, who waits for an item goes on waiting."""
    async def put(self, item: object) -> None:
        """Put `item`."""
    async def put_all(self, items: list[Any] | tuple[Any, ...]) -> None:
        """Put the items of a list or tuple, in their order."""
    async def get(
        self, block: bool = True, timeout: float | None = None, lease: float | None = None
    ) -> tuple[int, Any]:
        """Lease the next item: return the id of the lease, which is a fencing token, and the item.

        If there is none, wait, for `timeout` seconds at most if that is given; raise queue.Empty
        without one then, or at once if not `block`. The lease is over after `lease` seconds if
        that is given, and with the session.
        """
    async def holds(self, token: int) -> bool:
        """Return whether that lease is not over."""
    async def consume(self, token: int) -> bool:
        """Remove the item; return False, and do not, if the lease is over."""
    async def ack(self, token: int) -> bool:
        """Remove the item, as `consume` does."""
    async def release(self, token: int) -> bool:
        """Put the item back in its place; return False, and do not, if the lease is over."""
    async def renew(self, token: int, lease: float | None = None) -> bool:
        """Have the lease last for `lease` seconds more, or for the session."""
    async def qsize(self) -> int:
        """Return how many items can be had."""
    async def empty(self) -> bool:
        """Return whether none can be had."""
    async def leases(self) -> int:
        """Return how many items are leased."""

class Log(Proxy):
    """Entries in the order in which they were written, numbered from 0."""

    async def __concoordinit__(self) -> None:
        """Start anew, empty, with number 0."""
    async def write(self, entry: object) -> int:
        """Have `entry` replace all that there is; return its number."""
    async def append(self, entry: object) -> int:
        """Add `entry` at the end; return its number."""
    async def read(self, start: int = 0, limit: int | None = None) -> list[Any]:
        """Return the entries from that number on, or from the first that is left.

        Return `limit` of them at most if that is given.
        """
    async def trim(self, before: int) -> int:
        """Forget the entries before that number; return how many that were."""
    async def first(self) -> int:
        """Return the number of the first entry that is there."""
    async def next(self) -> int:
        """Return the number that the next entry will have."""

class Map(Proxy):
    """A dict; 1, 1.0 and True are one key."""

    async def __concoordinit__(self, items: dict[Any, Any] | None = None) -> None:
        """Start anew, with the items of `items`."""
    async def put(
        self, key: object, value: object, ephemeral: bool = False, ttl: float | None = None
    ) -> Any:
        """Set the value of a key and return what it was, or None.

        An ephemeral key is removed when the session of the caller ends, one with a `ttl` after so
        many seconds; another `put` makes it what that says.
        """
    async def put_if_absent(
        self, key: object, value: object, ephemeral: bool = False, ttl: float | None = None
    ) -> Any:
        """Set the value of a key that is not there and return None, or return what it has."""
    async def replace(self, key: object, value: object) -> bool:
        """Set the value of a key that is there; return whether it is."""
    async def compare_and_set(self, key: object, expected: object, new: object) -> bool:
        """Set the value of a key if it is `expected`; return whether it was.

        It must be so in type as well: 1 is neither 1.0 nor True.
        """
    async def remove(self, key: object) -> Any:
        """Remove a key and return what it had, or None if it is not there."""
    async def pop(self, key: object, default: object = ...) -> Any:
        """Remove a key and return what it had, or `default`; raise KeyError without either."""
    async def setdefault(self, key: object, default: object = None) -> Any:
        """Return the value of a key, set to `default` if it was not there."""
    async def update(self, items: dict[Any, Any]) -> None:
        """Set the values of all keys of a dict."""
    async def clear(self) -> None:
        """Remove all keys."""
    async def get(self, key: object, default: object = None) -> Any:
        """Return the value of a key, or `default`."""
    async def keys(self) -> list[Any]:
        """Return the keys."""
    async def values(self) -> list[Any]:
        """Return the values."""
    async def items(self) -> list[tuple[Any, Any]]:
        """Return the keys with their values."""
    async def contains(self, key: object) -> bool:
        """Return whether the key is there."""
    async def size(self) -> int:
        """Return how many keys there are."""

class Membership(Proxy):
    """Members: added until they are removed, or joined while a session lives."""

    async def __concoordinit__(self) -> None:
        """Start anew, without members."""
    async def add(self, member: object) -> bool:
        """Have a member until it is removed; return whether it is new."""
    async def join(self, member: object) -> bool:
        """Have a member that leaves when the caller's session ends; return whether it is new.

        One that was added or had joined belongs to this session now.
        """
    async def remove(self, member: object) -> None:
        """Remove a member; raise KeyError if it is none."""
    async def leave(self, member: object) -> bool:
        """Remove a member; return whether it was one."""
    async def members(self) -> list[Any]:
        """Return the members, the longest-standing first."""
    async def get_size(self) -> int:
        """Return how many members there are."""

class MeshMembership(Proxy):
    """Groups of nodes that watch each other.

    All methods but add_group raise KeyError for a group that is not there.
    """

    async def __concoordinit__(self) -> None:
        """Start anew, without groups; who waits gets False."""
    async def add_group(self, gname: object, minsize: int) -> bool:
        """Add a group that shall have `minsize` members; return whether it is new."""
    async def remove_group(self, gname: object) -> None:
        """Remove a group; who waits for it gets the KeyError."""
    async def approve_join(
        self, gname: object, node: object, epochno: int, ephemeral: bool = False
    ) -> tuple[bool, int]:
        """Have a node join in that epoch.

        Return True and the epoch that begins, or, if that is not the group's epoch, False and the
        one that is; for a member, True and the epoch. An ephemeral node leaves when the session of
        the caller ends.
        """
    async def leave(self, gname: object, node: object) -> bool:
        """Have a node leave; return whether it was a member."""
    async def notify_failure(
        self, gname: object, epoch: int, failednode: object
    ) -> tuple[bool, int]:
        """Say that a member has failed in that epoch.

        It is removed once more than half of the other members' number have said so, each session
        once. Return whether this removed it, and the epoch.
        """
    async def wait(self, gname: object, timeout: float | None = None) -> bool:
        """Wait until the group has `minsize` members; return whether it has.

        Wait for `timeout` seconds at most if that is given.
        """
    async def check_member(self, gname: object, node: object) -> bool:
        """Return whether the node is a member."""
    async def get_group_members(self, gname: object) -> list[Any]:
        """Return the members, the longest-standing first."""
    async def get_group_epoch(self, gname: object) -> int:
        """Return the epoch, 0 at first."""
    async def get_group_state(self, gname: object) -> dict[str, Any]:
        """Return a dict of `epoch`, `minsize`, `members` and `votes`.

        The votes are a dict of how many have said of which node that it has failed.
        """
    async def get_groups(self) -> list[Any]:
        """Return the names of the groups."""

class NameserverCoord(Proxy):
    """The nodes of subdomains, by their types."""

    async def __concoordinit__(self, domain: str = "openreplica.org.") -> None:
        """Start anew, without subdomains of `domain`."""
    async def addnodetosubdomain(self, subdomain: str, nodetype: object, node: object) -> None:
        """Add a node, and its subdomain if that is new."""
    async def delnodefromsubdomain(self, subdomain: str, nodetype: object, node: object) -> None:
        """Remove a node; raise KeyError if it is not there."""
    async def delsubdomain(self, subdomain: str) -> None:
        """Remove a subdomain; raise KeyError if it is not there."""
    async def updatesubdomain(self, subdomain: str, nodes: dict[Any, Any]) -> None:
        """Have a subdomain with these nodes and no others.

        They are a dict of a list or a set of nodes for each type.
        """
    async def getnodes(self, subdomain: str) -> dict[Any, list[Any]]:
        """Return the nodes, a list for each type; raise KeyError if the subdomain is not there."""
    async def getsubdomains(self) -> list[str]:
        """Return the names of the subdomains."""
    async def getdomains(self) -> list[str]:
        """Return the names of the subdomains with the domain's."""

class PriorityQueue(Proxy):
    """A queue whose least item comes first; of equal ones that which was put first."""

    async def __concoordinit__(self, maxsize: int = 0) -> None:
        """Start anew, empty; who waits to get or to put goes on in the new queue."""
    async def put(self, item: object, block: bool = True, timeout: float | None = None) -> None:
        """Put `item`.

        If the queue is full, wait for room, for `timeout` seconds at most if that is given; raise
        queue.Full without room then, or at once if not `block`.
        """
    async def put_nowait(self, item: object) -> None:
        """Put `item`, or raise queue.Full."""
    async def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Take the next item and return it.

        If there is none, wait, for `timeout` seconds at most if that is given; raise queue.Empty
        without one then, or at once if not `block`.
        """
    async def get_nowait(self) -> Any:
        """Take the next item, or raise queue.Empty."""
    async def task_done(self) -> None:
        """Say that an item which was taken is done with."""
    async def join(self) -> None:
        """Wait until all that was put has been done with."""
    async def qsize(self) -> int:
        """Return how many items there are."""
    async def empty(self) -> bool:
        """Return whether there is none."""
    async def full(self) -> bool:
        """Return whether there are `maxsize` of them."""

class Queue(Proxy):
    """A queue: first in, first out."""

    async def __concoordinit__(self, maxsize: int = 0) -> None:
        """Start anew, empty; who waits to get or to put goes on in the new queue."""
    async def put(self, item: object, block: bool = True, timeout: float | None = None) -> None:
        """Put `item`.

        If the queue is full, wait for room, for `timeout` seconds at most if that is given; raise
        queue.Full without room then, or at once if not `block`.
        """
    async def put_nowait(self, item: object) -> None:
        """Put `item`, or raise queue.Full."""
    async def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Take the next item and return it.

        If there is none, wait, for `timeout` seconds at most if that is given; raise queue.Empty
        without one then, or at once if not `block`.
        """
    async def get_nowait(self) -> Any:
        """Take the next item, or raise queue.Empty."""
    async def task_done(self) -> None:
        """Say that an item which was taken is done with."""
    async def join(self) -> None:
        """Wait until all that was put has been done with."""
    async def qsize(self) -> int:
        """Return how many items there are."""
    async def empty(self) -> bool:
        """Return whether there is none."""
    async def full(self) -> bool:
        """Return whether there are `maxsize` of them."""

class ReadWriteLock(Holder):
    """A lock that many hold to read, or one to write; fair to both."""

    async def __concoordinit__(self) -> None:
        """Release it and send all who wait away."""
    async def acquire_read(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Wait for the lock to read.

        Give up after `timeout` seconds unless that is -1. Return whether it was got.
        """
    async def acquire_write(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Wait for the lock to write.

        Give up after `timeout` seconds unless that is -1. Return whether it was got.
        """
    async def release_read(self) -> None:
        """Give it back once. Raise RuntimeError if the caller does not hold it to read."""
    async def release_write(self) -> None:
        """Give it back once. Raise RuntimeError if the caller does not hold it to write."""
    async def downgrade(self) -> int:
        """Hold it to read, once, instead of to write, without a gap between the two.

        Return the new fencing token. Raise RuntimeError if the caller does not hold it to write.
        """
    async def readers(self) -> int:
        """Return how many hold it to read."""
    async def locked(self) -> bool:
        """Return whether somebody holds it to write."""

class RLock(Holder):
    """A lock that its holder may acquire again, released when the session of its holder ends."""

    async def __concoordinit__(self) -> None:
        """Release it and send all who wait away."""
    async def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Wait for the lock that the caller may hold already.

        Give up after `timeout` seconds unless that is -1. Return whether it was got.
        """
    async def release(self) -> None:
        """Give it back once; at last it goes to whoever has waited longest.

        Raise RuntimeError if the caller does not hold it.
        """
    async def locked(self) -> bool:
        """Return whether somebody holds it."""

class Semaphore(Holder):
    """So many permits; those that a session holds come back when it ends."""

    async def __concoordinit__(self, value: int = 1, count: int | None = None) -> None:
        """Start anew, with `value` permits, which may also be given as `count`.

        Send all who wait away.
        """
    async def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        """Wait for a permit, but for `timeout` seconds at most. Return whether one was got."""
    async def release(self, n: int = 1) -> None:
        """Give back `n` permits, or make new ones where none are held."""
    async def getvalue(self) -> int:
        """Return how many permits nobody holds."""

class Stack(Proxy):
    """A stack: last in, first out."""

    async def __concoordinit__(self) -> None:
        """Start anew, empty."""
    async def append(self, item: object) -> None:
        """Put `item` on top."""
    async def push(self, item: object) -> None:
        """Put `item` on top."""
    async def pop(self) -> Any:
        """Take the item on top and return it; raise IndexError if there is none."""
    async def peek(self) -> Any:
        """Return the item on top; raise IndexError if there is none."""
    async def get_size(self) -> int:
        """Return how many items there are."""
    async def get_stack(self) -> list[Any]:
        """Return the items, the lowest first."""
