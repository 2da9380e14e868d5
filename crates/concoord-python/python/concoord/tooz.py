"""The driver for OpenStack's Tooz: `concoord://10.0.0.1:14000,10.0.0.2:14000`.

Options stand behind a `?`: `timeout`, the seconds that a call may take (30); `connect_timeout`,
those within which `start` must have an answer (5); and `dns`, the server that knows the domain
name that stands in place of addresses.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, TypeVar

from tooz import coordination, locking, utils
from tooz.coordination import Characteristics, CoordinatorResult

from concoord._concoord import Client
from concoord.exception import (
    CallTimeoutError,
    ConcoordError,
    FenceError,
    SessionExpiredError,
    UnreachableError,
)
from concoord.proxy.election import Election
from concoord.proxy.map import Map
from concoord.proxy.readwritelock import ReadWriteLock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["ConcoordDriver", "ConcoordLock"]

P = ParamSpec("P")
R = TypeVar("R")

_CALLERS = itertools.count(1)
"""Whoever acquires is a caller of its own: with Tooz, nothing is acquired twice."""

GROUPS = "tooz.groups"
NOT_STARTED = "the coordinator is not started"


class _Hold(NamedTuple):
    client: Client
    token: int
    release: str


class ConcoordLock(locking.Lock):
    """A lock that many hold shared, or one alone; given back when the coordinator is gone."""

    def __init__(self, lock: Client, name: bytes) -> None:
        """Make one that holds nothing yet."""
        super().__init__(name)
        self._lock = lock
        self._mine: list[_Hold] = []
        self._guard = threading.Lock()

    def acquire(
        self,
        blocking: bool | float = True,
        shared: bool = False,
        timeout: float | None = None,
    ) -> bool:
        """Acquire it, within `timeout` seconds; a number as `blocking` means the same."""
        if blocking is not True and blocking is not False:
            blocking, timeout = True, blocking
        way = "read" if shared else "write"
        hold = _acquire(self._lock, way, blocking, -1 if timeout is None else timeout)
        if hold is None:
            return False
        with self._guard:
            self._mine.append(hold)
        return True

    def release(self) -> bool:
        """Give back what was acquired last; return whether it was still held."""
        with self._guard:
            if not self._mine:
                return False
            hold = self._mine.pop()
        return _release(hold)

    def break_(self) -> bool:
        """Release it, whoever holds it; return whether anybody did."""
        with _failures():
            held = bool(self._lock.call("locked")) or self._lock.call("readers") > 0
            if held:
                self._lock.call("__concoordinit__")
        return held

    def is_still_owner(self) -> bool:
        """Ask the cluster whether this is held as it was acquired."""
        with self._guard:
            hold = self._mine[-1] if self._mine else None
        return hold is not None and _holds(hold)

    @property
    def acquired(self) -> bool:
        """Whether it was acquired, and not released, through this object."""
        return bool(self._mine)

    @property
    def token(self) -> int:
        """The fencing token of what was acquired last: ever greater from holder to holder."""
        with self._guard:
            if not self._mine:
                message = "the lock is not acquired"
                raise RuntimeError(message)
            return self._mine[-1].token


class ConcoordDriver(coordination.CoordinationDriverCachedRunWatchers):
    """A coordinator whose groups, locks and elections are objects on ConCoord's replicas.

    All that it has ends with its session, which keeps itself alive: no heartbeat is needed.
    """

    CHARACTERISTICS = (
        Characteristics.NON_TIMEOUT_BASED,
        Characteristics.DISTRIBUTED_ACROSS_THREADS,
        Characteristics.DISTRIBUTED_ACROSS_PROCESSES,
        Characteristics.DISTRIBUTED_ACROSS_HOSTS,
        Characteristics.LINEARIZABLE,
        Characteristics.SEQUENTIAL,
        Characteristics.CAUSAL,
        Characteristics.SERIALIZABLE,
        Characteristics.SAME_VIEW_UNDER_PARTITIONS,
        Characteristics.SAME_VIEW_ACROSS_CLIENTS,
    )

    def __init__(self, member_id: bytes, parsed_url: Any, options: dict[str, Any]) -> None:
        """Take the URL apart; `start` connects."""
        super().__init__(utils.to_binary(member_id), parsed_url, options)
        given = utils.collapse(options)
        self._bootstrap = parsed_url.netloc
        if "dns" in given:
            self._bootstrap += f"?dns={given['dns']}"
        self._timeout = float(given.get("timeout", 30))
        self._connect_timeout = float(given.get("connect_timeout", 5))
        self._client: Client | None = None
        # Not Tooz's own executor, which takes a second to stop.
        self._executor: ThreadPoolExecutor | None = None
        self._caller = next(_CALLERS)
        self._epochs: dict[bytes, int] = {}

    def _start(self) -> None:
        super()._start()
        with _failures(unreachable=CallTimeoutError):
            # By a session of its own: later calls may take longer than this one.
            first = Client(self._bootstrap, self._connect_timeout, Map, GROUPS)
            try:
                first.call("size")
            finally:
                first.close()
            self._client = Client(self._bootstrap, self._timeout, Map, GROUPS)
        self._executor = ThreadPoolExecutor(1, "concoord-tooz")

    def _stop(self) -> None:
        self._epochs.clear()
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(ConcoordError):
                client.close()
        executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown()
        super()._stop()

    def create_group(self, group_id: bytes) -> CoordinatorResult[None]:
        """Create a group, unless there is one of that id."""
        return self._later(self._create_group, utils.to_binary(group_id))

    def delete_group(self, group_id: bytes) -> CoordinatorResult[None]:
        """Delete a group that has no members."""
        return self._later(self._delete_group, utils.to_binary(group_id))

    def get_groups(self) -> CoordinatorResult[list[bytes]]:
        """Give the ids of all groups."""
        return self._later(lambda: list(self._groups.call("keys")))

    def join_group(
        self, group_id: bytes, capabilities: coordination.Capabilities | None = None
    ) -> CoordinatorResult[None]:
        """Join a group, until `leave_group` or the end of the session."""
        return self._later(self._join_group, utils.to_binary(group_id), capabilities)

    def leave_group(self, group_id: bytes) -> CoordinatorResult[None]:
        """Leave a group."""
        return self._later(self._leave_group, utils.to_binary(group_id))

    def get_members(self, group_id: bytes) -> CoordinatorResult[set[bytes]]:
        """Give the ids of a group's members."""
        return self._later(lambda: set(self._members_of(utils.to_binary(group_id))))

    def get_members_with_capabilities(
        self, group_id: bytes
    ) -> CoordinatorResult[dict[bytes, coordination.Capabilities | None]]:
        """Give a group's members, each with its capabilities."""
        return self._later(self._members_of, utils.to_binary(group_id))

    def get_member_capabilities(
        self, group_id: bytes, member_id: bytes
    ) -> CoordinatorResult[coordination.Capabilities | None]:
        """Give the capabilities of a member."""
        return self._later(
            self._capabilities, utils.to_binary(group_id), utils.to_binary(member_id)
        )

    def get_member_info(
        self, group_id: bytes, member_id: bytes
    ) -> CoordinatorResult[dict[str, Any]]:
        """Give what is known of a member: its capabilities."""
        group, member = utils.to_binary(group_id), utils.to_binary(member_id)
        return self._later(lambda: {"capabilities": self._capabilities(group, member)})

    def update_capabilities(
        self, group_id: bytes, capabilities: coordination.Capabilities
    ) -> CoordinatorResult[None]:
        """Replace the capabilities of this member."""
        return self._later(self._update_capabilities, utils.to_binary(group_id), capabilities)

    def get_leader(self, group_id: bytes) -> CoordinatorResult[bytes]:
        """Give the id of the member that leads, or None."""
        return self._later(lambda: self._election(utils.to_binary(group_id)).call("leader"))

    def get_lock(self, name: bytes) -> ConcoordLock:
        """Give a lock, which all coordinators know by that name."""
        return ConcoordLock(self._object(ReadWriteLock, "lock", utils.to_binary(name)), name)

    def unwatch_elected_as_leader(self, group_id: bytes, callback: Any) -> None:
        """Run for election no more, if nobody here wants to know of it."""
        super().unwatch_elected_as_leader(group_id, callback)
        if group_id not in self._hooks_elected_leader:
            self.stand_down_group_leader(group_id)

    def stand_down_group_leader(self, group_id: bytes) -> bool:
        """Lead no more; return whether this led. The next `run_watchers` runs for it again."""
        if self._epochs.pop(group_id, None) is None:
            return False
        with _failures():
            try:
                self._election(utils.to_binary(group_id)).call("resign")
            except RuntimeError:
                return False
            return True

    def run_watchers(self, timeout: float | None = None) -> list[Any]:
        """Call who watches groups, and run for the elections that are watched."""
        results = super().run_watchers(timeout)
        for group_id in list(self._hooks_elected_leader):
            results += self._run_for(group_id)
        return results

    def _run_for(self, group_id: bytes) -> list[Any]:
        with _failures():
            election = self._election(utils.to_binary(group_id))
            epoch = election.call("campaign", self._member_id, 0)
        if epoch is False:
            self._epochs.pop(group_id, None)
            return []
        # The epoch says whether it was led all the time since we looked.
        if self._epochs.get(group_id) == epoch:
            return []
        self._epochs[group_id] = epoch
        event = coordination.LeaderElected(group_id, self._member_id)
        return self._hooks_elected_leader[group_id].run(event)

    def _create_group(self, group: bytes) -> None:
        if self._groups.call("put_if_absent", group, True) is not None:
            raise coordination.GroupAlreadyExist(group)

    def _delete_group(self, group: bytes) -> None:
        with self._gate(group, "write") as gate:
            if self._members_of(group):
                raise coordination.GroupNotEmpty(group)
            gate(self._groups).call("remove", group)

    def _join_group(self, group: bytes, capabilities: coordination.Capabilities | None) -> None:
        # Many may join at a time, but none while the group is deleted.
        with self._gate(group, "read") as gate:
            self._check_group(group)
            members = gate(self._object(Map, "members", group))
            said = utils.dumps(capabilities)
            if members.call("put_if_absent", self._member_id, said, True) is not None:
                raise coordination.MemberAlreadyExist(group, self._member_id)
        self._joined_groups.add(group)

    def _leave_group(self, group: bytes) -> None:
        members = self._object(Map, "members", group)
        if members.call("remove", self._member_id) is None:
            raise coordination.MemberNotJoined(group, self._member_id)
        self._joined_groups.discard(group)

    def _update_capabilities(self, group: bytes, capabilities: coordination.Capabilities) -> None:
        members = self._object(Map, "members", group)
        if not members.call("replace", self._member_id, utils.dumps(capabilities)):
            raise coordination.MemberNotJoined(group, self._member_id)

    def _members_of(self, group: bytes) -> dict[bytes, coordination.Capabilities | None]:
        self._check_group(group)
        items = self._object(Map, "members", group).call("items")
        return {member: _capabilities_of(said) for member, said in items}

    def _capabilities(self, group: bytes, member: bytes) -> coordination.Capabilities | None:
        said = self._object(Map, "members", group).call("get", member)
        if said is None:
            raise coordination.MemberNotJoined(group, member)
        return _capabilities_of(said)

    def _check_group(self, group: bytes) -> None:
        if not self._groups.call("contains", group):
            raise coordination.GroupNotCreated(group)

    @contextlib.contextmanager
    def _gate(self, group: bytes, way: str) -> Iterator[Callable[[Client], Client]]:
        """Guard calls by a lock: should it be lost, they are refused, however late they come."""
        lock = self._object(ReadWriteLock, "gate", group)
        hold = _acquire(lock, way, True, -1)
        if hold is None:
            message = f"the lock of group {group!r} was broken"
            raise coordination.ToozError(message)
        try:
            yield lambda client: client.guarded(hold.client, hold.token)
        finally:
            _release(hold)

    def _election(self, group: bytes) -> Client:
        return self._object(Election, "election", group)

    @property
    def _groups(self) -> Client:
        if self._client is None:
            raise coordination.ToozError(NOT_STARTED)
        return self._client.called_by(self._caller)

    def _object(self, proxy: type, kind: str, name: bytes) -> Client:
        # Ids are bytes, and names of objects text: Latin-1 has a letter for each byte.
        return self._groups.object(proxy, f"tooz.{kind}.{name.decode('latin-1')}")

    def _later(
        self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs
    ) -> CoordinatorResult[R]:
        if self._executor is None:
            raise coordination.ToozError(NOT_STARTED)
        return CoordinatorResult(self._executor.submit(function, *args, **kwargs), _failures)


def _acquire(lock: Client, way: str, blocking: bool, timeout: float) -> _Hold | None:
    client = lock.called_by(next(_CALLERS))
    with _failures():
        if not blocking:
            timeout = -1
        token = client.call(f"acquire_{way}", blocking, timeout)
    return None if token is False or token is None else _Hold(client, token, f"release_{way}")


def _release(hold: _Hold) -> bool:
    with _failures():
        try:
            hold.client.guarded(hold.client, hold.token).call(hold.release)
        except (FenceError, SessionExpiredError, RuntimeError):
            # It is others' by now, or nobody's.
            return False
        return True


def _holds(hold: _Hold) -> bool:
    with _failures():
        try:
            hold.client.guarded(hold.client, hold.token).call("locked")
        except (FenceError, SessionExpiredError):
            return False
        return True


def _capabilities_of(said: bytes) -> coordination.Capabilities | None:
    capabilities: coordination.Capabilities | None = utils.loads(said)
    return capabilities


@contextlib.contextmanager
def _failures(unreachable: type[ConcoordError] = UnreachableError) -> Iterator[None]:
    """Raise what goes wrong as Tooz calls it."""
    try:
        yield
    except (UnreachableError, unreachable) as error:
        utils.raise_with_cause(coordination.ToozConnectionError, str(error), cause=error)
    except CallTimeoutError as error:
        utils.raise_with_cause(coordination.OperationTimedOut, str(error), cause=error)
    except ConcoordError as error:
        utils.raise_with_cause(coordination.ToozError, str(error), cause=error)
