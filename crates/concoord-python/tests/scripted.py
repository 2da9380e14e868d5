"""A replica in a thread, for what a proxy does whatever its replicas are."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading

from frames import Reader, frame, text, varint

from concoord._concoord import decode, encode
from concoord._interface import interface_of

NO_SUCH_METHOD = 4


class ScriptedReplica:
    """Serves an object of a class; a call of `hang` is never answered."""

    def __init__(self, cls: type, interface=None) -> None:
        self.object = cls()
        self.interface = interface or interface_of(cls)
        self.sessions: list[int] = []
        self.hanging = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        self._connections: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self._threads[0].join(10)
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self._connections.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as incoming:
            try:
                assert incoming.read(8) == b"\xc0\xcdcncrd\x01"
                hello = self._message(incoming)
                hello.varint()
                wanted = hello.text() if hello.varint() else self.interface.name
                if wanted != self.interface.name:
                    refusal = f"this cluster hosts {self.interface.name}"
                    connection.sendall(frame(varint(3) + text(refusal)))
                    return
                connection.sendall(frame(self._welcome()))
                while (request := self._message(incoming)) is not None:
                    if answer := self._answer(request):
                        connection.sendall(frame(answer))
            except OSError:
                pass  # the client has gone, or the test is over

    def _message(self, incoming) -> Reader | None:
        header = incoming.read(12)
        if len(header) < 12:
            return None
        return Reader(incoming.read(struct.unpack_from("<I", header)[0]))

    def _welcome(self) -> bytes:
        here = varint(0) + bytes([127, 0, 0, 1]) + varint(self.port)
        members = varint(1) + here
        return (
            varint(0) + varint(1) + here + varint(1) + here + members
            + text(self.interface.name) + varint(10_000)
        )  # fmt: skip

    def _answer(self, request: Reader) -> bytes | None:
        kind = request.varint()
        if kind == 0:
            self.sessions.append(len(self.sessions) + 1)
            return varint(0) + varint(len(self.sessions))
        if kind == 1:
            _, sequence, _ = (request.varint() for _ in range(3))
            for _ in range(request.varint()):
                request.varint()  # what was received
            request.varint()  # the thread
            assert request.varint() == 0, "no guard is expected"
            request.text(), request.text()  # the object
            method, given = request.text(), request.bytes()
            if method == "hang":
                self.hanging.set()
                return None
            return varint(2) + varint(sequence) + self._outcome(method, given)
        if kind in (2, 3):
            return varint(kind + 2) + varint(request.varint())
        if kind == 4:
            return None  # nobody waits for what is cancelled
        return varint(6) + self._interface()

    def _outcome(self, method: str, given: bytes) -> bytes:
        args, kwargs = decode(given) if given else ([], {})
        if method == "refused":
            return varint(2) + varint(NO_SUCH_METHOD) + text("C") + text(method)
        if method == "__concoordinit__":
            self.object = type(self.object)(*args, **kwargs)
            return varint(0) + text(encode(None))
        try:
            return varint(0) + text(encode(getattr(self.object, method)(*args, **kwargs)))
        except Exception as error:
            return varint(1) + text(encode(error))

    def _interface(self) -> bytes:
        name, doc, methods = self.interface
        out = text(name) + text(doc) + varint(len(methods))
        for method, doc, parameters, returns, read_only in methods:
            out += text(method) + text(doc) + varint(len(parameters))
            for parameter, kind, default, annotation in parameters:
                known = varint(0) if default is None else varint(1) + text(default)
                out += text(parameter) + varint(kind) + known + text(annotation)
            out += text(returns) + varint(read_only)
        return out
