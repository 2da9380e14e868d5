"""Replicas that are known by their domain's name."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import TYPE_CHECKING

import pytest
from responder import Responder

import concoord
from concoord import exception
from concoord.proxy.counter import Counter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cluster import Cluster

COUNTER = "concoord.object.counter.Counter"


@pytest.fixture
def dns() -> Iterator[Responder]:
    with Responder("counterdomain.com") as responder:
        yield responder


def test_a_domain_leads_to_its_replicas(cluster: Cluster, dns: Responder) -> None:
    cluster.start(COUNTER, 2)
    dns.set_replicas(cluster.addresses)
    counter = Counter(dns.bootstrap)
    counter.increment()
    assert counter.getvalue() == 1
    assert dns.bootstrap in repr(counter)
    concoord.close(counter)


def test_the_environment_names_the_server(
    cluster: Cluster, dns: Responder, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.start(COUNTER)
    dns.set_replicas(cluster.addresses)
    monkeypatch.setenv("CONCOORD_DNS", dns.address)
    counter = Counter("counterdomain.com")
    assert counter.getvalue() == 0
    concoord.close(counter)


def test_a_client_outlives_all_replicas_that_it_knew(cluster: Cluster, dns: Responder) -> None:
    cluster.start(COUNTER)
    dns.set_replicas(cluster.addresses)
    counter = Counter(dns.bootstrap)
    counter.increment()
    cluster.start(COUNTER)
    dns.set_replicas(cluster.addresses[1:])
    cluster.replicas[0].terminate()
    assert cluster.replicas[0].wait(timeout=20) == 0
    counter.increment()
    assert counter.getvalue() == 2
    concoord.close(counter)


def test_who_was_asked_is_said(dns: Responder) -> None:
    with pytest.raises(exception.UnreachableError) as raised:
        Counter(dns.bootstrap, timeout=1)
    text = str(raised.value)
    assert f"counterdomain.com: {dns.address} knows no such name" in text
    dns.silent = True
    with pytest.raises(exception.UnreachableError, match=f"no answer yet from {dns.address}"):
        Counter(dns.bootstrap, timeout=0.3)
    with pytest.raises(exception.BootstrapError, match="names no DNS server"):
        Counter("counterdomain.com?dns=here")


def test_ctrl_c_ends_a_look_up_at_once(dns: Responder, request: pytest.FixtureRequest) -> None:
    dns.silent = True
    # A shell starts what runs in the background deaf to it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))

    def interrupt() -> None:
        dns.asked.wait(20)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        Counter(dns.bootstrap, timeout=60)
    assert time.monotonic() - start < 10
    thread.join()
