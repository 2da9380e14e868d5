"""Three replicas on this machine, the tutorial's lines against them, and a kill -9."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

CONCOORD = str(Path(sys.executable).parent / "concoord")
COUNTER = "concoord.object.counter.Counter"
BOLD, PLAIN = ("\x1b[1m", "\x1b[0m") if sys.stdout.isatty() else ("", "")


def step(text: str) -> None:
    """Say what comes now."""
    print(f"\n{BOLD}== {text}{PLAIN}", flush=True)


def show(*command: str) -> str:
    """Run a command, as a user would see it."""
    print(f"$ concoord {' '.join(command)}", flush=True)
    done = subprocess.run([CONCOORD, *command], check=True, capture_output=True, text=True)
    print(done.stdout, end="", flush=True)
    return done.stdout


class Replica:
    """A replica in a process of its own; at the end of the demo it is stopped."""

    def __init__(self, stack: ExitStack, log: Path, *options: str) -> None:
        """Start one, and wait until it serves."""
        command = ["replica", "-o", COUNTER, "-a", "127.0.0.1", *options]
        print(f"$ concoord {' '.join(command)}", flush=True)
        stderr = stack.enter_context(log.open("w"))
        self.process = subprocess.Popen(
            [CONCOORD, *command], stdout=subprocess.PIPE, stderr=stderr, text=True
        )
        stack.callback(self.stop)
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"the replica did not start:\n{log.read_text()}")
        print(line, end="", flush=True)
        self.address = line.removeprefix("REPLICA-").split()[0]

    def stop(self) -> None:
        """End it, whatever state it is in."""
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Console:
    """Runs Python lines and shows them as Python's own prompt does."""

    def __init__(self) -> None:
        """Begin without any names."""
        self.names: dict[str, object] = {}

    def run(self, *lines: str) -> None:
        """Run the lines one by one; what they give is printed."""
        for line in lines:
            print(f">>> {line}", flush=True)
            exec(compile(line, "<demo>", "single"), self.names)  # noqa: S102


def leader() -> str:
    """Who leads, as `concoord status` says."""
    command = [CONCOORD, "status", "--json", "-b", ",".join(ADDRESSES)]
    status = subprocess.run(command, check=True, capture_output=True, text=True)
    return str(json.loads(status.stdout)["leader"])


ADDRESSES: list[str] = []


def main() -> None:
    """Show all of it, and clean up whatever happens."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="concoord-demo-")))

        step("Start a replica of the Counter, then two that join it")
        first = Replica(stack, folder / "1.log")
        replicas = [first]
        replicas += [Replica(stack, folder / f"{n}.log", "-b", first.address) for n in (2, 3)]
        ADDRESSES.extend(replica.address for replica in replicas)

        step("Use it from Python as if it were local")
        console = Console()
        console.run(
            "from concoord.proxy.counter import Counter",
            f'c = Counter("{", ".join(ADDRESSES)}")',
            "c.increment()",
            "c.increment()",
            "c.getvalue()",
        )

        step("See who replicates it")
        show("status", "-b", first.address)

        step("Kill the leader")
        led = leader()
        victim = next(replica for replica in replicas if replica.address == led)
        print(f"$ kill -9 {victim.process.pid}    # {led}", flush=True)
        victim.process.kill()
        victim.process.wait()

        step("The same proxy goes on, and nothing is lost")
        start = time.monotonic()
        console.run("c.increment()")
        took = time.monotonic() - start
        console.run("c.getvalue()", "c.close()")
        print(f"The first call after the death took {took * 1000:.0f} ms.")
        survivor = next(address for address in ADDRESSES if address != led)
        show("status", "-b", survivor)

        step("Stop the rest")
    print(
        f"""
{BOLD}Try next{PLAIN}
  source .venv/bin/activate
  concoord replica -o {COUNTER} -a 127.0.0.1 -p 14000
  concoord call increment          # in another terminal
  concoord status
  concoord bench --spawn 3         # how fast is it here?
  less docs/tutorial.txt           # a class of your own, replicated"""
    )


if __name__ == "__main__":
    main()
