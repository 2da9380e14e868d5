"""Replicas as processes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path


class Cluster:
    """Replicas on free ports of this machine."""

    def __init__(self) -> None:
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

    def start(self, name: str, count: int = 1) -> None:
        """Start replicas of a class, one after the other, and wait until each serves."""
        for _ in range(count):
            boot = ["-b", self.bootstrap] if self.addresses else []
            command = [sys.executable, "-m", "concoord", "replica", "-o", name, "-a", "127.0.0.1"]
            environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
            replica = subprocess.Popen(
                [*command, *boot], stdout=subprocess.PIPE, text=True, env=environment
            )
            self.replicas.append(replica)
            line = replica.stdout.readline()
            connected = re.fullmatch(r"REPLICA-(127\.0\.0\.1:\d+) connected\.\n", line)
            assert connected, line
            self.addresses.append(connected[1])

    def kill(self, index: int) -> None:
        """End a replica as a power cut would."""
        self.replicas[index].kill()
        self.replicas[index].wait()
