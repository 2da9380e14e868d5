"""Joins the hosts' cables, and loses, delays or cuts what passes as it is told.

    switch.py CABLE...

A cable is a network interface whose name ends in a host's number; that host's hardware address
ends in the same number. Each line on standard input is JSON and replaces all that was told before:

    {"cut": [[1, 2]], "loss": 20, "delay": [20, 80]}

Host 1 reaches host 2 no more (though 2 reaches 1); of 100 frames 20 are lost; the others take
20 to 80 ms. It is answered by a line once it holds. Without input any more, the switch ends.
"""

from __future__ import annotations

import contextlib
import heapq
import json
import random
import select
import socket
import sys
import time

# Of linux/if_packet.h; the socket module does not name them.
SOL_PACKET = 263
PACKET_VNET_HDR = 15
PACKET_IGNORE_OUTGOING = 23
# The header that PACKET_VNET_HDR puts before each frame: frames pass with their checksums still to
# be made, and unsegmented, as between two ends of a cable.
HEADER_BYTES = 10
FRAME_BYTES_MAX = 1 << 17
ALL_PROTOCOLS = 3


def plug(cable: str) -> socket.socket:
    """Take what comes out of a cable's end."""
    end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    end.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    end.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    end.bind((cable, ALL_PROTOCOLS))
    end.setblocking(False)
    return end


class Switch:
    """The ends, and what was told."""

    def __init__(self, cables: list[str]) -> None:
        """Plug them in; all frames pass."""
        self.ends = {int("".join(filter(str.isdigit, cable))): plug(cable) for cable in cables}
        self.tell("{}")
        self.late: list[tuple[float, int, int, bytes]] = []
        self.frames = 0

    def tell(self, line: str) -> None:
        """Do as this line says from now on."""
        told = json.loads(line)
        self.cut = {tuple(pair) for pair in told.get("cut", [])}
        self.loss = told.get("loss", 0) / 100
        self.delay = told.get("delay")

    def run(self) -> None:
        """Pass frames on until standard input ends."""
        waiting = select.epoll()
        numbers = {end.fileno(): number for number, end in self.ends.items()}
        for descriptor in [*numbers, sys.stdin.fileno()]:
            waiting.register(descriptor, select.EPOLLIN)
        while True:
            timeout = max(0.0, self.late[0][0] - time.monotonic()) if self.late else None
            for descriptor, _ in waiting.poll(timeout):
                if descriptor in numbers:
                    self.take_in(numbers[descriptor])
                elif line := sys.stdin.readline():
                    self.tell(line)
                    sys.stdout.write("told\n")
                    sys.stdout.flush()
                else:
                    return
            while self.late and self.late[0][0] <= time.monotonic():
                _, _, number, frame = heapq.heappop(self.late)
                self.send(number, frame)

    def take_in(self, source: int) -> None:
        """Pass on what a host sent."""
        try:
            frame = self.ends[source].recv(FRAME_BYTES_MAX)
        except BlockingIOError:
            return
        to_all = frame[HEADER_BYTES] & 1
        address = frame[HEADER_BYTES + 5]
        for number in self.ends if to_all else {address} & self.ends.keys():
            if number != source and (source, number) not in self.cut:
                self.pass_on(number, frame)

    def pass_on(self, number: int, frame: bytes) -> None:
        """Send it to that host, now or later or not."""
        if random.random() < self.loss:
            return
        if self.delay is None:
            self.send(number, frame)
        else:
            shortest, longest = self.delay
            moment = time.monotonic() + random.uniform(shortest, longest) / 1000
            self.frames += 1
            heapq.heappush(self.late, (moment, self.frames, number, frame))

    def send(self, number: int, frame: bytes) -> None:
        """Send it; a full cable loses it, as cables do."""
        with contextlib.suppress(OSError):
            self.ends[number].send(frame)


if __name__ == "__main__":
    Switch(sys.argv[1:]).run()
