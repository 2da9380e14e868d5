"""Do what the tutorial says, to the letter: its commands, then its lines of Python.

A program of its own, so that it can have the ports of the tutorial in a network of its own:
`unshare --net python tutorial.py`.
"""

from __future__ import annotations

import doctest
import fcntl
import os
import re
import shlex
import socket
import struct
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

TUTORIAL = Path(__file__).parents[3] / "docs" / "tutorial.txt"
PORTS = (14000, 14001)


def section(title: str, end: str | None = None) -> str:
    """Read from a heading on, to another one."""
    _, found, text = TUTORIAL.read_text().partition(f"\n{title}\n")
    assert found, title
    return text.partition(f"\n{end}\n")[0] if end else text


def commands() -> list[str]:
    """What it says to type in a shell to have replicas."""
    text = section("Starting Replica Nodes", "Starting Replicas as Name Servers")
    return re.findall(r"^\$ (.*)$", text, re.MULTILINE)


def examples() -> list[doctest.Example]:
    """What it says to type in Python, with what that prints."""
    return doctest.DocTestParser().get_examples(section("Connecting to ConCoord Objects") + "\n")


def set_loopback_up() -> None:
    """A new network has a loopback device, but it is down."""
    get_flags, set_flags, up = 0x8913, 0x8914, 1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(any_socket, get_flags, request))[1]
        if not flags & up:
            fcntl.ioctl(any_socket, set_flags, struct.pack("16sh14x", b"lo", flags | up))


def start(stack: ExitStack, command: str) -> subprocess.Popen[str]:
    """Run a command of the tutorial until it says that it serves."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    replica = subprocess.Popen(
        shlex.split(command), stdout=subprocess.PIPE, text=True, env={**os.environ, "PATH": path}
    )
    stack.callback(replica.wait)
    stack.callback(replica.kill)
    said = replica.stdout.readline()
    assert re.fullmatch(r"REPLICA-127\.0\.0\.1:1400[01] connected\.\n", said), said
    return replica


def run(lines: list[doctest.Example]) -> None:
    """Run lines of Python; each must print what stands below it."""
    test = doctest.DocTest(lines, {}, TUTORIAL.name, str(TUTORIAL), 0, None)
    runner = doctest.DocTestRunner()
    runner.run(test, clear_globs=False)
    assert (runner.failures, runner.tries) == (0, len(lines))
    test.globs["c"].close()


def main() -> None:
    """Do it, then see that any one replica is enough."""
    set_loopback_up()
    lines = examples()
    assert len(lines) == 11, lines
    again = next(at for at in range(1, len(lines)) if lines[at].source == lines[0].source)
    with ExitStack() as stack:
        replicas = [start(stack, command) for command in commands()]
        assert len(replicas) == 2
        run(lines)
        # "As long as one of the replicas is alive", whichever it is.
        for index, command in enumerate(commands()):
            replicas[index].kill()
            replicas[index].wait()
            run(lines[again:])
            if index == 0:
                replicas[index] = start(stack, command)
                run(lines[again:])


if __name__ == "__main__":
    main()
