"""A proxy in front of a server: loses requests, loses answers, cuts inside an answer, delays."""

from __future__ import annotations

import random
import socket
import threading
from contextlib import suppress


class CuttingProxy:
    """Passes bytes on, and cuts connections at random.

    Args:
        port: of the server.
        seed: of the choices.
        often: the part of messages at which a connection is cut.
    """

    def __init__(self, port: int, seed: int, often: float) -> None:
        self._target = port
        self._chance = random.Random(seed)
        self.often = often
        self.cuts = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self._target), 10)
                except OSError:
                    client.close()
                    continue
                self._open |= {client, server}
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=self._pass_on, args=pair, daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while message := source.recv(1 << 16):
                if self._chance.random() < self.often:
                    self.cuts += 1
                    target.sendall(message[: self._chance.randrange(len(message))])  # of an answer a part, or nothing
                    break
                target.sendall(message)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
            self._open.discard(end)

    def close(self) -> None:
        """Accept no more connections, and end those that are there."""
        self._listener.close()
        for end in list(self._open):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
