"""Clusters for tests: real replicas on this host, which die, stop and lose each other at will.

>>> from concoord.proxy.counter import Counter
>>> from concoord.testing import Cluster
>>> with Cluster(3) as cluster, Counter(cluster.address) as counter:
...     cluster.leader.kill()
...     counter.increment()

With pytest, the fixture `concoord_cluster` is a cluster of three that lasts as long as the test.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import TracebackType

    from typing_extensions import Self

__all__ = ["Cluster", "Replica"]

COUNTER = "concoord.object.counter.Counter"

_HOSTS = itertools.count()
_PAUSE = 0.05
"""Seconds between two looks at what tells nobody that it has changed."""


class Replica:
    """A replica of a `Cluster`: a process at an address of its own."""

    def __init__(self, cluster: Cluster, host: str, port: int, files: Path) -> None:
        """Know where it will be; `Cluster` starts it."""
        self.host = host
        self.address = f"{host}:{port}"
        self._cluster = cluster
        self._port = port
        self._data = files / "data"
        self._log = files / "log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        """All that it has logged so far."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    @property
    def alive(self) -> bool:
        """Whether its process is there, be it paused."""
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """End it as a power cut would."""
        self._signal(signal.SIGKILL)
        self._end()

    def stop(self) -> None:
        """Have it leave the cluster, and end."""
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)
        self._end()

    def pause(self) -> None:
        """Freeze it: it keeps its connections, and is silent."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after `pause`."""
        self._signal(signal.SIGCONT)

    def restart(self) -> None:
        """Start it anew at its address, killing it if it lives, and wait until it serves.

        Of a cluster that is not durable it comes back without its state, and gets that from the
        others.
        """
        if self.alive:
            self.kill()
        self._start()

    def _start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own command
                self._command(), stdout=subprocess.PIPE, stderr=log, env=_environment()
            )
        self._await_serving()

    def _command(self) -> list[str]:
        cluster = self._cluster
        others = [each.address for each in cluster.replicas if each is not self and each.alive]
        command = [sys.executable, "-m", "concoord", "replica", "-o", cluster.object]
        command += ["-a", self.host, "-p", str(self._port), *cluster.options]
        if cluster.durable:
            command += ["-w", "--data-dir", str(self._data)]
        return [*command, "-b", ",".join(others)] if others else command

    def _await_serving(self) -> None:
        ends = time.monotonic() + self._cluster.timeout
        process = self._running()
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        said = b""
        while b"connected.\n" not in said:
            left = ends - time.monotonic()
            if left <= 0 or not select.select([process.stdout], [], [], left)[0]:
                self.kill()
                message = f"{self.address} did not serve within {self._cluster.timeout} s"
                raise TimeoutError(f"{message}:\n{self.log}")
            more = os.read(process.stdout.fileno(), 4096)
            if not more:
                self._end()
                message = f"{self.address} ended, with exit code {process.returncode}"
                raise RuntimeError(f"{message}:\n{self.log}")
            said += more

    def _signal(self, number: int) -> None:
        self._running().send_signal(number)

    def _end(self) -> None:
        process = self._running()
        try:
            process.wait(self._cluster.timeout)
        finally:
            if process.stdout is not None:
                process.stdout.close()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            message = f"{self.address} was never started"
            raise RuntimeError(message)
        return self._process

    def __repr__(self) -> str:
        """Say where it is, and whether it lives."""
        return f"<Replica at {self.address}: {'alive' if self.alive else 'dead'}>"


class Cluster:
    """Replicas of one class, as processes on this host.

    They start when the `with` is entered, each at a loopback address of its own, and are killed
    when it is left.
    """

    def __init__(
        self,
        size: int = 3,
        object: str | type = COUNTER,  # noqa: A002 - as the command calls it
        *,
        durable: bool = False,
        options: Sequence[str] = (),
        timeout: float = 30,
    ) -> None:
        """Say what to start: `size` replicas of a class, which is named or given.

        What this process can import, they can. `durable` ones write to the disk, and know after a
        `restart` what they knew. `options` are more words for `concoord replica`. What takes
        longer than `timeout` seconds raises `TimeoutError`.
        """
        if size < 1:
            message = "a cluster has one replica at least"
            raise ValueError(message)
        if isinstance(object, type):
            object = f"{object.__module__}.{object.__qualname__}"  # noqa: A001 - as above
        self.object = object
        self.size = size
        self.durable = durable
        self.options = tuple(options)
        self.timeout = timeout
        self.replicas: list[Replica] = []
        self._files = contextlib.ExitStack()
        self._table = ""

    @property
    def address(self) -> str:
        """The addresses of all replicas, for proxies and for `concoord … -b`."""
        return ",".join(replica.address for replica in self.replicas)

    @property
    def leader(self) -> Replica:
        """The replica that leads; waits until one does."""
        ends = time.monotonic() + self.timeout
        while time.monotonic() < ends:
            for asked in self.replicas:
                if asked.alive and (leader := self._leader_by(asked)) is not None:
                    return leader
            time.sleep(_PAUSE)
        message = f"no replica has led for {self.timeout} s"
        raise TimeoutError(message)

    def status(self, replica: Replica | None = None) -> dict[str, Any]:
        """Give what `concoord status --json` prints, of one replica or of any that lives."""
        address = replica.address if replica else self.address
        command = [sys.executable, "-m", "concoord", "status", "--json", "-b", address]
        done = subprocess.run(  # noqa: S603 - our own command
            command, capture_output=True, check=False, timeout=self.timeout
        )
        status: dict[str, Any] = json.loads(done.stdout) if done.stdout else {}
        return status

    def partition(self, *groups: Iterable[int]) -> None:
        """Cut groups of replicas off from each other, as in `partition([0], [1, 2])`.

        Replicas that no group names reach all; clients reach every replica. What was cut before is
        healed. Takes root and the command `nft`: raises `PermissionError` without.
        """
        sides = [[self.replicas[index].host for index in group] for group in groups]
        self.heal()
        _check_may_cut()
        self._table = f"concoord_{os.getpid()}_{next(_HOSTS)}"
        _nft(_rules(self._table, sides))

    def heal(self) -> None:
        """End the partition, if there is one."""
        if self._table:
            _nft(f"delete table ip {self._table}")
            self._table = ""

    def __enter__(self) -> Self:
        """Start the replicas, and wait until each serves."""
        try:
            files = Path(self._files.enter_context(_folder()))
            for index in range(self.size):
                self._add(files / str(index))
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Kill what is left of them, and remove what they wrote."""
        self._close()

    def _add(self, files: Path) -> None:
        files.mkdir()
        host = _free_host()
        replica = Replica(self, host, _free_port(host), files)
        self.replicas.append(replica)
        replica._start()  # noqa: SLF001 - they are one

    def _close(self) -> None:
        with contextlib.ExitStack() as stack:
            stack.callback(self._files.close)
            for replica in self.replicas:
                if replica.alive:
                    stack.callback(replica.kill)
            stack.callback(self.heal)

    def _leader_by(self, asked: Replica) -> Replica | None:
        leads = [
            member["address"]
            for member in self.status(asked).get("members", [])
            if member.get("role") == "leader" and member.get("ready")
        ]
        return next((each for each in self.replicas if each.address in leads), None)

    def __repr__(self) -> str:
        """Say what it is of."""
        return f"<Cluster of {self.object}: {self.replicas}>"


def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="concoord-", ignore_cleanup_errors=True)


def _environment() -> dict[str, str]:
    path = os.pathsep.join(str(Path(each).absolute()) for each in sys.path)
    return {**os.environ, "PYTHONPATH": path}


def _free_host() -> str:
    # Each its own: who has died leaves its port to nobody, and a partition knows it by its address.
    number = (os.getpid() * 251 + next(_HOSTS)) % 0xFFFFFD + 2
    return "127." + ".".join(str(byte) for byte in number.to_bytes(3, "big"))


def _free_port(host: str) -> int:
    with socket.socket() as free:
        free.bind((host, 0))
        port: int = free.getsockname()[1]
        return port


def _check_may_cut() -> None:
    if os.geteuid() != 0:
        message = "a partition changes the host's packet filter: run the test as root"
        raise PermissionError(message)
    if shutil.which("nft") is None:
        message = "a partition takes the command nft: install nftables"
        raise PermissionError(message)


def _rules(table: str, sides: list[list[str]]) -> str:
    rules = [
        f"add table ip {table}",
        f"add chain ip {table} cut {{ type filter hook input priority 0; }}",
    ]
    for side, other in itertools.permutations(sides, 2):
        rules += [
            f"add rule ip {table} cut ip saddr {source} ip daddr {target} drop"
            for source, target in itertools.product(side, other)
        ]
    return "\n".join(rules)


def _nft(commands: str) -> None:
    done = subprocess.run(
        ["nft", "-f", "-"],  # noqa: S607 - wherever it is installed
        input=commands,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        reason = re.sub(r"\s+", " ", done.stderr).strip()
        message = f"the packet filter could not be changed: {reason}"
        raise PermissionError(message)
