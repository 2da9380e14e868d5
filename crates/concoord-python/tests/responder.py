"""A DNS server on loopback, which knows one domain."""

from __future__ import annotations

import socket
import struct
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_SRV = 33
_NAME_ERROR = 3


class Responder:
    """Answers where the replicas of a domain are, as long as it is not silent."""

    def __init__(self, domain: str) -> None:
        self._name = f"_concoord._tcp.{domain}"
        self._answers: list[bytes] = []
        self.silent = False
        self.asked = threading.Event()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.address = "{}:{}".format(*self._socket.getsockname())
        self.bootstrap = f"{domain}?dns={self.address}"
        threading.Thread(target=self._serve, daemon=True).start()

    def __enter__(self) -> Responder:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def set_replicas(self, addresses: Iterable[str]) -> None:
        """Have the domain stand for these."""
        answers = []
        for address in addresses:
            host, _, port = address.rpartition(":")
            target = _labels(f"{host.replace('.', '-')}.ipaddr.example")
            data = struct.pack(">HHH", 0, 100, int(port)) + target
            answers += [b"\xc0\x0c" + struct.pack(">HHIH", _SRV, 1, 1, len(data)) + data]
            answers += [target + struct.pack(">HHIH", 1, 1, 1, 4) + socket.inet_aton(host)]
        self._answers = answers

    def _serve(self) -> None:
        while True:
            try:
                question, sender = self._socket.recvfrom(4096)
            except OSError:
                return
            self.asked.set()
            if not self.silent:
                self._socket.sendto(self._answer(question), sender)

    def _answer(self, question: bytes) -> bytes:
        end = question.index(b"\0", 12) + 5
        is_ours = question[12 : end - 4] == _labels(self._name) and question[end - 3] == _SRV
        services, targets = self._answers[::2], self._answers[1::2]
        if not is_ours or not services:
            services, targets = [], []
        code = 0 if services else _NAME_ERROR
        counts = struct.pack(">HHHH", 1, len(services), 0, len(targets))
        header = question[:2] + bytes([0x84, code]) + counts
        return header + question[12:end] + b"".join(services + targets)


def _labels(name: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"
