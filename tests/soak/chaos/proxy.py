"""A TCP proxy on loopback whose wires can be made slow, cut, or dead without anybody being told."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import Literal, Self

Mode = Literal["pass", "delay", "blackhole"]
BLOCK_BYTES = 65536
POLL_SECONDS = 0.05


class Proxy:
    """Forwards one port to another.

    Args:
        target: Port on 127.0.0.1 behind it.

    Attributes:
        port: Port on 127.0.0.1 to connect to.
        mode: ``pass``; ``delay`` holds every block back for ``delay_seconds``; ``blackhole`` takes no byte and closes
            nothing, as a cable does that is pulled out.
    """

    def __init__(self, target: int, delay_seconds: float = 0.05) -> None:
        self.target, self.delay_seconds = target, delay_seconds
        self.mode: Mode = "pass"
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._closed = False

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept(), which close() alone would not
        self._listener.close()
        self.reset()

    def reset(self) -> None:
        """Cut every connection, with RST where the system lets us."""
        with self._lock:
            cut, self._open = self._open, set()
        for wire in cut:
            with contextlib.suppress(OSError):
                wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
                wire.shutdown(socket.SHUT_RDWR)
            wire.close()

    def _accept(self) -> None:
        while not self._closed:
            try:
                near, _ = self._listener.accept()
            except OSError:  # a caller gone before it was taken, or no descriptor left: only our own end ends this
                time.sleep(0.01)
                continue
            threading.Thread(target=self._connect, args=(near,), daemon=True).start()

    def _connect(self, near: socket.socket) -> None:
        try:
            far = socket.create_connection(("127.0.0.1", self.target), timeout=5)
        except OSError:
            near.close()
            return
        far.settimeout(None)
        with self._lock:
            if self._closed:
                near.close()
                far.close()
                return
            self._open |= {near, far}
        for source, sink in ((near, far), (far, near)):
            threading.Thread(target=self._forward, args=(source, sink), daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while block := source.recv(BLOCK_BYTES):
                if self.mode == "delay":
                    time.sleep(self.delay_seconds)
                while self.mode == "blackhole" and not self._closed:
                    time.sleep(POLL_SECONDS)
                sink.sendall(block)
        with self._lock:
            self._open -= {source, sink}
        for wire in (source, sink):
            # Wakes the thread of the other direction, which close() alone would not.
            with contextlib.suppress(OSError):
                wire.shutdown(socket.SHUT_RDWR)
            wire.close()
