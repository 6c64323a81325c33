"""A proxy in front of a server: loses requests, loses answers, cuts inside an answer, delays."""

from __future__ import annotations

import random
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass


@dataclass(eq=False)
class _Pair:
    """The two ends of a connection, and whether its next answer is to be lost."""

    client: socket.socket
    server: socket.socket
    loses: bool = False

    def close(self) -> None:
        for end in (self.client, self.server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


class CuttingProxy:
    """Passes bytes on, and cuts connections.

    Args:
        port: of the server.
        seed: of the choices.
        often: the part of messages at which a connection is cut.
        at: the port on which it listens; 0: any that is free.

    Attributes:
        loses: part of requests that are passed on, and whose connection is cut before their answer.
        holds: part of requests that are kept, and whose connection is cut.
        held: these requests; ``send_held`` sends them late.
        lost: number of answers that were lost because of ``loses``.
        is_down: whether new connections are refused; those that are there are not cut.
    """

    def __init__(self, port: int, seed: int = 0, often: float = 0, at: int = 0) -> None:
        self._target = port
        self._chance = random.Random(seed)
        self.often = often
        self.loses = self.holds = b""
        self.held: list[bytes] = []
        self.cuts = self.lost = 0
        self.is_down = False
        self._listener = socket.create_server(("127.0.0.1", at))
        self.port: int = self._listener.getsockname()[1]
        self._open: set[_Pair] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    if self.is_down:
                        raise OSError
                    server = socket.create_connection(("127.0.0.1", self._target), 10)
                except OSError:
                    client.close()
                    continue
                pair = _Pair(client, server)
                self._open.add(pair)
                for way in (self._requests, self._answers):
                    threading.Thread(target=self._run, args=(way, pair), daemon=True).start()

    def _run(self, way: object, pair: _Pair) -> None:
        with suppress(OSError):
            way(pair)  # type: ignore[operator]
        pair.close()
        self._open.discard(pair)

    def _requests(self, pair: _Pair) -> None:
        while message := pair.client.recv(1 << 16):
            if self.holds and self.holds in message:
                self.held.append(message)
                return
            if self.loses and self.loses in message:
                pair.loses = True
            if self._passes(message, pair.server):
                pair.server.sendall(message)

    def _answers(self, pair: _Pair) -> None:
        while message := pair.server.recv(1 << 16):
            if pair.loses:
                self.lost += 1
                return
            if self._passes(message, pair.client):
                pair.client.sendall(message)

    def _passes(self, message: bytes, target: socket.socket) -> bool:
        if self._chance.random() >= self.often:
            return True
        self.cuts += 1
        target.sendall(message[: self._chance.randrange(len(message))])  # of an answer a part, or nothing
        raise OSError

    def send_held(self) -> list[bytes]:
        """Send what was kept; return the answers."""
        answers = []
        while self.held:
            with socket.create_connection(("127.0.0.1", self._target), 10) as late:
                late.sendall(self.held.pop(0))
                answers.append(late.recv(1 << 16))
        return answers

    def cut(self) -> None:
        """Cut all connections."""
        for pair in list(self._open):
            pair.close()

    def close(self) -> None:
        """Accept no more connections, and end those that are there."""
        self._listener.close()
        self.cut()
