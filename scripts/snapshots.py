"""How long calls take while the state is written down: `python scripts/snapshots.py`.

Starts replicas that host a `Store` of some size, has one client call it without a pause, first
alone and then while `concoord snapshot save` takes one backup after the other, and prints a table.
Nothing is asserted: compare within one run only.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import concoord

SIZES = {"1 KB": 1_000, "10 MB": 10_000_000, "500 MB": 500_000_000}
VALUE_BYTES = 1_000


class Store:
    """A state of any size, of which each call changes a little."""

    def __init__(self) -> None:
        """Hold nothing yet."""
        self.values: dict[int, bytes] = {}
        self.calls = 0

    def grow(self, count: int, size: int) -> int:
        """Add values."""
        start = len(self.values)
        for key in range(start, start + count):
            self.values[key] = key.to_bytes(8, "little") * (size // 8)
        return len(self.values)

    def touch(self) -> int:
        """Change one value."""
        self.calls += 1
        key = self.calls * 7919 % len(self.values)
        self.values[key] = self.values[key][::-1]
        return self.calls


class Replicas:
    """Replicas of a store, as processes."""

    def __init__(self, count: int) -> None:
        """Start them."""
        self.addresses: list[str] = []
        self._processes = []
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
        environment["CONCOORD_LOG"] = "warn"
        for _ in range(count):
            command = [sys.executable, "-m", "concoord", "replica", "-o", "snapshots.Store"]
            command += ["-a", "127.0.0.1"]
            if self.addresses:
                command += ["-b", self.addresses[0]]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
            self._processes.append(process)
            self.addresses.append(process.stdout.readline().split("-", 1)[1].split()[0])

    def close(self) -> None:
        """End them."""
        for process in self._processes:
            process.kill()
            process.wait()

    def peak_mib(self) -> int:
        """Return the most memory that the first replica, without its worker, ever had."""
        status = Path(f"/proc/{self._processes[0].pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) // 1024


def measure(store: object, seconds: float, over: threading.Event | None = None) -> list[float]:
    """Call without a pause; the milliseconds of each call."""
    times = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end and not (over and over.is_set()):
        start = time.perf_counter()
        store.touch()
        times.append((time.perf_counter() - start) * 1000)
    return sorted(times)


def row(name: str, what: str, times: list[float], *more: object) -> list[str]:
    """Return a row of the table."""
    at = [times[min(len(times) - 1, int(len(times) * part))] for part in (0.5, 0.99, 0.999)]
    return [
        name,
        what,
        str(len(times)),
        *(f"{each:.2f}" for each in (*at, times[-1])),
        *map(str, more),
    ]


def backups(address: str, count: int, over: threading.Event, took: list[float]) -> None:
    """Take one backup after the other."""
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(count):
            start = time.perf_counter()
            command = [sys.executable, "-m", "concoord", "snapshot", "save", f"{folder}/backup"]
            subprocess.run(
                [*command, "-b", address, "--json", "--timeout", "120"],
                check=True,
                stdout=subprocess.DEVNULL,
            )
            took.append(time.perf_counter() - start)
    over.set()


def bench(name: str, size: int, replicas: int, seconds: float, count: int) -> list[list[str]]:
    """Measure one size."""
    with (
        contextlib.closing(Replicas(replicas)) as running,
        concoord.connect(running.addresses[0]) as store,
    ):
        value = min(VALUE_BYTES, size)
        left = size // value
        while left:
            part = min(left, 20_000)
            store.grow(part, value)
            left -= part
        measure(store, 1)
        alone = measure(store, seconds)
        over, took = threading.Event(), []
        arguments = (running.addresses[0], count, over, took)
        thread = threading.Thread(target=backups, args=arguments)
        thread.start()
        during = measure(store, 600, over)
        thread.join()
        peak = running.peak_mib()
    each = f"{sum(took) / len(took):.2f}"
    return [row(name, "alone", alone, "-", "-"), row(name, "backups", during, each, peak)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--backups", type=int, default=5)
    parser.add_argument("--sizes", nargs="*", default=list(SIZES))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    head = [
        "STATE",
        "WHILE",
        "CALLS",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
        "max ms",
        "s EACH",
        "PEAK MiB",
    ]
    rows = [head]
    for name in options.sizes:
        rows += bench(name, SIZES[name], options.replicas, options.seconds, options.backups)
    if options.json:
        print(json.dumps([dict(zip(head, row, strict=True)) for row in rows[1:]], indent=2))
        return
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    for row_ in rows:
        print("  ".join(cell.rjust(width) for cell, width in zip(row_, widths, strict=True)))


if __name__ == "__main__":
    main()
