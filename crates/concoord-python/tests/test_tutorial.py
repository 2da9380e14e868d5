from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import tutorial


def own_network() -> list[str]:
    """What to put before a command so that it has a network of its own; nothing if none can be."""
    rights = [] if os.geteuid() == 0 else ["--map-root-user"]
    command = ["unshare", *rights, "--net"]
    try:
        tried = subprocess.run([*command, "true"], capture_output=True, check=False)
    except FileNotFoundError:
        return []
    return command if tried.returncode == 0 else []


def is_free(port: int) -> bool:
    with socket.socket() as taker:
        return taker.connect_ex(("127.0.0.1", port)) != 0


def test_the_tutorial_does_as_it_says() -> None:
    network = own_network()
    if not network and not all(map(is_free, tutorial.PORTS)):
        pytest.skip(
            "the tutorial's ports are taken, and there is no right to a network of one's own"
        )
    script = Path(tutorial.__file__)
    subprocess.run([*network, sys.executable, script], check=True)
