"""A server of Redis or Valkey on a loopback port of its own, which can be killed and started again."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = [name for name in ("redis-server", "valkey-server") if shutil.which(name)]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """A server that keeps its port and its files over restarts.

    Args:
        folder: for its files.
        program: "redis-server" or "valkey-server".
        settings: of the server, besides those that all have.
    """

    def __init__(self, folder: Path, program: str, **settings: str) -> None:
        self._folder = folder
        self._program = program
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        settings = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "dir": str(self._folder),
            "save": "",
            "appendonly": "yes",
            "appendfsync": "always",
            **self._settings,
        }
        self._start([word for name, value in settings.items() for word in (f"--{name}", value)])

    def start_as_sentinel(self, file: Path) -> None:
        """Start as a sentinel, whose settings are in a file that it writes itself."""
        self._start([str(file), "--port", str(self.port), "--bind", "127.0.0.1", "--sentinel"])

    def _start(self, options: list[str]) -> None:
        log = (self._folder / "log").open("ab")
        with log:
            self._process = subprocess.Popen(
                [self._program, *options], stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
        until = time.monotonic() + 60
        while not self._answers():
            assert self._process.poll() is None, (self._folder / "log").read_text("utf-8")
            assert time.monotonic() < until, "the server does not answer"
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(100).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """End the server by SIGKILL."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait()
            self._process = None

    def send_signal(self, number: signal.Signals) -> None:
        """Stop or continue the server."""
        os.kill(self.pid, number)

    def url(self, name: str = "q", user: str = "") -> str:
        """Return the URL of a queue."""
        return f"redis://{user}127.0.0.1:{self.port}/0#{name}"

    def command(self, *words: str) -> list[bytes]:
        """Send one command; return the lines of the answer."""
        return self.raw(*words)

    def raw(self, *words: str | bytes) -> list[bytes]:
        """Send one command that may have any bytes; return the lines of the answer."""
        parts = [word if isinstance(word, bytes) else word.encode() for word in words]
        with socket.create_connection(("127.0.0.1", self.port), 10) as connection:
            request = b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
            connection.sendall(b"*%d\r\n" % len(words) + request + b"*1\r\n$4\r\nQUIT\r\n")
            answer = b""
            while part := connection.recv(1 << 16):
                answer += part
        return answer.split(b"\r\n")[:-2]


@contextmanager
def served(**settings: str) -> Iterator[tuple[Server, Path]]:
    """Start a server with some settings in a folder of its own; kill it, and remove the folder, at the end."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server = Server(folder, PROGRAMS[0], **settings)
        server.start()
        try:
            yield server, folder
        finally:
            server.kill()
