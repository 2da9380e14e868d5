"""The `concoord` command of the package: the same program as the one without Python."""

from __future__ import annotations

import signal
import sys

from concoord._concoord import run


def main() -> int:
    """Run the command line; replicas that it starts host their objects with this Python."""
    # Python would only take note of Ctrl-C and not be asked again.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    return run(sys.argv, sys.executable)
