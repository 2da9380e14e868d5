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
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
        if folder:
            del environment["PYTHONPATH"]
        for _ in range(count):
            boot = ["-b", self.bootstrap] if self.addresses else []
            command = [sys.executable, "-m", "concoord", "replica", "-o", name, "-a", self.host]
            replica = subprocess.Popen(
                [*command, *boot, *options],
                stdout=subprocess.PIPE,
                text=True,
                env=environment,
                cwd=folder,
            )
            self.replicas.append(replica)
            line = replica.stdout.readline()
            connected = re.fullmatch(r"REPLICA-(127\.\d+\.\d+\.\d+:\d+) connected\.\n", line)
            assert connected, line
            self.addresses.append(connected[1])

    def kill(self, index: int) -> None:
        """End a replica as a power cut would."""
        self.replicas[index].kill()
        self.replicas[index].wait()

    def status(self, index: int) -> dict[str, Any]:
        """Ask a replica how the cluster is."""
        command = [sys.executable, "-m", "concoord", "status", "--json"]
        command += ["-b", self.addresses[index]]
        return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
