"""Classes of one's own on replicas that die, and methods that go wrong there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING

import clumsy
import pytest
import tencounter
import waiting

import concoord
from concoord import exception
from concoord.proxy.counter import Counter

if TYPE_CHECKING:
    from cluster import Cluster

COUNTER = "concoord.object.counter.Counter"
Clumsy = concoord.proxy_for(clumsy.Clumsy)
Alarm = concoord.proxy_for(waiting.Alarm)
Deadly = concoord.proxy_for(waiting.Deadly)
Locks = concoord.proxy_for(waiting.Locks)
Bag = concoord.proxy_for(tencounter.Bag)

# A class as one who has just installed us writes it, in the folder that he is in.
TENS = """
class TenCounter:
    def __init__(self, value=0):
        self.value = value

    def increment(self):
        self.value += 10

    def getvalue(self):
        return self.value
"""


def alike(cluster: Cluster) -> bool:
    members = cluster.status(-1)["members"]
    assert all("unreachable" not in member for member in members)
    states = {(member["applied"], member["digest"]) for member in members}
    return len(states) == 1 and all(digest for _, digest in states)


def until(holds, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_class_of_the_current_folder_outlives_its_replicas(
    cluster: Cluster, tmp_path: Path
) -> None:
    (tmp_path / "tens.py").write_text(TENS)
    cluster.start("tens.TenCounter", 2, folder=tmp_path)
    with concoord.connect(cluster.bootstrap) as c:
        c.increment()
        cluster.kill(0)
        c.increment()
        cluster.start("tens.TenCounter", folder=tmp_path)
        until(lambda: alike(cluster))
        cluster.kill(1)
        c.increment()
        assert c.getvalue() == 30
        c.__concoordinit__(5)
        assert c.getvalue() == 5


def test_a_class_that_is_not_there_is_named_with_what_to_do(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "concoord", "replica", "-o", "nowhere.Nothing"]
    ended = subprocess.run(
        [*command, "-a", "127.0.0.1"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 4
    assert "nowhere" in ended.stderr
    assert "PYTHONPATH" in ended.stderr


def test_what_a_method_does_wrong_is_its_callers_alone(cluster: Cluster) -> None:
    cluster.start("clumsy.Clumsy", 3)
    with Clumsy(cluster.bootstrap) as c, Clumsy(cluster.bootstrap) as other:
        with pytest.raises(KeyError) as raised:
            c.stumble()
        assert raised.value.args == ("a stone", 1)
        assert 'File "clumsy.py"' in str(raised.value.__cause__)
        assert other.step() == 2
        with pytest.raises(TypeError, match=r"the result.*cannot encode function"):
            c.describe()
        # It ran all the same: only its result has nowhere to go.
        assert other.step() == 4
        until(lambda: alike(cluster))


def test_sets_give_the_same_on_who_lived_and_on_who_joined(cluster: Cluster) -> None:
    cluster.start("tencounter.Bag", 2)
    words = [f"word {number}" for number in range(500)]
    with Bag(cluster.bootstrap) as bag:
        for turn in range(3):
            for each in range(0, 500, 11):
                bag.put(*words[each:], *words[: each // 2])
            bag.pop(333)
            cluster.start("tencounter.Bag")
            for each in range(0, 500, 17):
                bag.put(*words[each : each + 40])
                assert bag.pop(30)
            # The digest is of all that was ever answered, and so of what each replica popped.
            until(lambda: alike(cluster))
            cluster.kill(turn)


def test_a_backup_starts_a_cluster_of_the_same_class_and_no_other(
    cluster: Cluster, tmp_path: Path
) -> None:
    (tmp_path / "tens.py").write_text(TENS)
    cluster.start("tens.TenCounter", 2, folder=tmp_path)
    with concoord.connect(cluster.bootstrap) as c:
        c.__concoordinit__(7)
        c.increment()
        saved = cluster.run(
            "snapshot", "save", "backup", "-b", cluster.addresses[1], folder=tmp_path
        )
        assert saved.returncode == 0, saved.stderr
    cluster.kill(0)
    cluster.kill(1)
    cluster.restore(tmp_path / "backup", "tens.TenCounter", folder=tmp_path)
    with concoord.connect(cluster.addresses[-1]) as c:
        assert c.getvalue() == 17
        c.increment()
        assert c.getvalue() == 27
    options = ["-a", "127.0.0.1"]
    restore = ["snapshot", "restore", "backup", *options]
    (tmp_path / "tens.py").write_text(TENS + "\n# another source\n")
    other = cluster.run(*restore, "-o", "tens.TenCounter", folder=tmp_path)
    assert other.returncode == 1
    assert "would behave differently" in other.stderr
    wrong = cluster.run(*restore, "-o", COUNTER, folder=tmp_path)
    assert wrong.returncode == 1
    assert "the backup is of tens.TenCounter" in wrong.stderr


def test_a_call_that_kills_its_process_is_skipped(cluster: Cluster) -> None:
    cluster.start("clumsy.Clumsy", 3)
    with Clumsy(cluster.bootstrap) as c:
        assert c.step() == 1
        with pytest.raises(exception.ObjectCrashedError):
            c.fall()
        assert c.step() == 2
        until(lambda: alike(cluster))


def test_who_waits_goes_on_though_workers_and_the_leader_are_killed(cluster: Cluster) -> None:
    cluster.start("waiting.Locks", 3)
    with Locks(cluster.bootstrap) as holder, ThreadPoolExecutor() as pool:
        waiters = [Locks(cluster.bootstrap) for _ in range(3)]
        holder.acquire("lock")
        waits = [pool.submit(waiter.acquire, "lock") for waiter in waiters]
        until(lambda: holder.waiting("lock") == 3)
        for replica in cluster.replicas:
            children = Path(f"/proc/{replica.pid}/task/{replica.pid}/children").read_text()
            (worker,) = map(int, children.split())
            os.kill(worker, signal.SIGKILL)
        holder.release("lock")
        first, _ = wait(waits, 30, FIRST_COMPLETED)
        (first,) = first
        leader = cluster.addresses.index(cluster.status(1)["leader"])
        cluster.kill(leader)
        # Its session ends, and what it had is the next one's.
        owner = waiters[waits.index(first)]
        assert owner.waiting("lock") == 2
        owner.close()
        others = [each for each in waits if each is not first]
        second, _ = wait(others, 30, FIRST_COMPLETED)
        (second,) = second
        waiters[waits.index(second)].release("lock")
        assert all(each.result(30) is True for each in waits)
        holder.release("lock")
        with pytest.raises(RuntimeError, match="un-acquired"):
            holder.release("lock")
        for waiter in waiters:
            waiter.close()


@pytest.mark.timeout(120)
def test_a_timer_that_kills_workers_is_left_out(cluster: Cluster) -> None:
    cluster.start("waiting.Deadly", 2)
    with Deadly(cluster.bootstrap) as deadly:
        deadly.arm()
        # Six deaths on each replica, with longer and longer pauses after them.
        until(lambda: deadly.rung() == 1, seconds=90)
        deadly.ring()
        assert deadly.rung() == 2
        until(lambda: alike(cluster))


def test_an_alarm_rings_though_nobody_calls_and_goes_on_elsewhere(cluster: Cluster) -> None:
    cluster.start("waiting.Alarm", 2)
    with Alarm(cluster.bootstrap) as alarm, Alarm(cluster.bootstrap, name="other") as other:
        until(lambda: alarm.rung() == 1)
        assert other.rung() == 0, "to look at what there is not makes nothing"
        other.__concoordinit__()
        until(lambda: other.rung() == 1)
        until(lambda: alike(cluster))
        cluster.kill(0)
        assert (alarm.rung(), other.rung()) == (1, 1)


def test_a_call_that_never_ends_holds_up_no_election_and_is_skipped(cluster: Cluster) -> None:
    cluster.start("clumsy.Clumsy", 3, "--apply-timeout", "2")
    with Clumsy(cluster.bootstrap, timeout=30) as c, ThreadPoolExecutor() as pool:
        assert c.step() == 1
        lost = pool.submit(c.wander)
        until(lambda: cluster.status(1)["members"][0]["committed"] > cluster_applied(cluster))
        leader = cluster.status(1)["leader"]
        cluster.kill(cluster.addresses.index(leader))
        survivors = [address for address in cluster.addresses if address != leader]
        asked = cluster.addresses.index(survivors[0])
        until(lambda: cluster.status(asked)["leader"] in survivors)
        # Other clients are answered what does not need the object, and wait for what does.
        with Clumsy(", ".join(survivors)) as other:
            assert not lost.done()
            assert other.step() == 2
        with pytest.raises(exception.ObjectCrashedError):
            lost.result()
        assert c.step() == 3


def cluster_applied(cluster: Cluster) -> int:
    """How far the object is, where it is furthest."""
    return max(member["applied"] for member in cluster.status(1)["members"])


def test_a_forked_process_goes_on_with_the_same_proxy(cluster: Cluster) -> None:
    cluster.start(COUNTER, 2)
    with Counter(cluster.bootstrap) as c:
        c.increment()
        child = os.fork()
        if not child:
            for _ in range(10):
                c.increment()
            os._exit(0 if c.getvalue() >= 11 else 1)
        for _ in range(10):
            c.increment()
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert c.getvalue() == 21


# A shell that starts the tests in the background has SIGINT ignored, and so would this.
WAITER = """
import signal
import sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from concoord.proxy.counter import Counter
c = Counter(sys.argv[1])
c.increment()
print("waits", flush=True)
sys.stdin.readline()
try:
    c.increment()
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def test_ctrl_c_ends_a_call_that_waits_for_a_quorum(cluster: Cluster) -> None:
    cluster.start(COUNTER, 2)
    command = [sys.executable, "-c", WAITER, cluster.bootstrap]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as waiter:
        assert waiter.stdout.readline() == "waits\n"
        for replica in cluster.replicas:
            replica.send_signal(signal.SIGSTOP)
        waiter.stdin.write("\n")
        waiter.stdin.flush()
        with pytest.raises(subprocess.TimeoutExpired):
            waiter.wait(0.3)
        start = time.monotonic()
        waiter.send_signal(signal.SIGINT)
        assert waiter.stdout.readline() == "interrupted\n"
        assert waiter.wait() == 0
        assert time.monotonic() - start < 1


def test_replicas_that_are_gone_are_each_named(cluster: Cluster) -> None:
    cluster.start(COUNTER, 2)
    with Counter(cluster.bootstrap, timeout=2) as c:
        c.increment()
        cluster.kill(0)
        cluster.kill(1)
        start = time.monotonic()
        for call in (c.increment, lambda: Counter(cluster.bootstrap, timeout=1)):
            with pytest.raises((exception.UnreachableError, exception.CallTimeoutError)) as raised:
                call()
            for address in cluster.addresses:
                assert f"{address}: nobody listens there" in str(raised.value)
        assert time.monotonic() - start < 5
