"""A tiny load balancer: one new connection to a replica for each one of a client, none to a replica taken out."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
from collections.abc import Sequence
from typing import Self

BLOCK_BYTES = 65536


class Balancer:
    """Forwards connections to the replicas that are in, in turn.

    It is as blind as a balancer that does not read HTTP: nothing is tried again once a byte has passed.

    Args:
        ports: Replicas on 127.0.0.1.

    Attributes:
        port: Where clients connect.
    """

    def __init__(self, ports: Sequence[int]) -> None:
        self._in = list(ports)
        self._turn = itertools.count()
        self._lock = threading.Lock()
        self._closed = False
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = int(self._listener.getsockname()[1])

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    @property
    def url(self) -> str:
        """Base URL for clients."""
        return f"http://127.0.0.1:{self.port}"

    def take_out(self, port: int) -> None:
        """Send no new connection there; open ones go on."""
        with self._lock:
            self._in = [other for other in self._in if other != port]

    def put_in(self, port: int) -> None:
        """Send new connections there again."""
        with self._lock:
            self._in = [*self._in, port]

    def _accept(self) -> None:
        while not self._closed:
            try:
                near, _ = self._listener.accept()
            except OSError:
                continue
            threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        with self._lock:
            port = self._in[next(self._turn) % len(self._in)]
        try:
            far = socket.create_connection(("127.0.0.1", port), timeout=5)
        except OSError:
            near.close()
            return
        far.settimeout(None)
        back = threading.Thread(target=_forward, args=(far, near), daemon=True)
        back.start()
        _forward(near, far)
        back.join()
        near.close()
        far.close()


def _forward(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while block := source.recv(BLOCK_BYTES):
            sink.sendall(block)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
