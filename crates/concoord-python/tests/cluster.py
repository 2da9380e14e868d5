"""Replicas as processes."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

HOSTS = itertools.count(2)


def _environment(folder: Path | None) -> dict[str, str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    if folder:
        del environment["PYTHONPATH"]
    return environment


class Cluster:
    """Replicas at a loopback address of their own.

    So the port of one that was killed is nobody else's: survivors would greet whoever has it.
    """

    def __init__(self) -> None:
        high, low = (os.getpid() & 0xFFFF).to_bytes(2, "big")
        self.host = f"127.{high}.{low}.{next(HOSTS)}"
        self.replicas: list[subprocess.Popen[str]] = []
        self.addresses: list[str] = []

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        for replica in self.replicas:
            replica.kill()
            replica.wait()
            replica.stdout.close()

    @property
    def bootstrap(self) -> str:
        return ", ".join(self.addresses)

    def start(self, name: str, count: int = 1, *options: str, folder: Path | None = None) -> None:
        """Start replicas of a class, one after the other, and wait until each serves.

        The class is found through PYTHONPATH, or else in the folder that they are started from.
        """
        for _ in range(count):
            boot = ["-b", self.bootstrap] if self.addresses else []
            self._start("replica", "-o", name, *boot, *options, folder=folder)

    def restore(self, file: Path, name: str, folder: Path) -> None:
        """Start the first replica of a cluster with the state in a file."""
        self._start("snapshot", "restore", str(file), "-o", name, folder=folder)

    def _start(self, *words: str, folder: Path | None) -> None:
        replica = subprocess.Popen(
            [sys.executable, "-m", "concoord", *words, "-a", self.host],
            stdout=subprocess.PIPE,
            text=True,
            env=_environment(folder),
            cwd=folder,
        )
        self.replicas.append(replica)
        line = replica.stdout.readline()
        connected = re.fullmatch(r"REPLICA-(127\.\d+\.\d+\.\d+:\d+) connected\.\n", line)
        assert connected, line
        self.addresses.append(connected[1])

    def run(self, *words: str, folder: Path) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "concoord", *words],
            capture_output=True,
            text=True,
            check=False,
            env=_environment(folder),
            cwd=folder,
            timeout=30,
        )

    def kill(self, index: int) -> None:
        """End a replica as a power cut would."""
        self.replicas[index].kill()
        self.replicas[index].wait()

    def status(self, index: int) -> dict[str, Any]:
        """Ask a replica how the cluster is."""
        command = [sys.executable, "-m", "concoord", "status", "--json"]
        command += ["-b", self.addresses[index]]
        return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
