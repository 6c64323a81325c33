"""The release before this package was written anew. It has the same import name, so it is installed into a folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

from ..channel import Channel, End, Peer, Size

VERSION: Final = "0.1.5"
DISTRIBUTION: Final = "shared-multiprocess-queue"
_MODULE: Final = "shared_multiprocess_queue"
_REQUIREMENTS: Final = (f"{DISTRIBUTION}=={VERSION}", "shared-memory-lock==0.1.5")


class InstallError(Exception):
    """The release cannot be installed; the message has what pip wrote."""


def install(folder: Path) -> None:
    """Install the release into a folder; its own requirement of a newer Python is not about this use of it."""
    options = ["--quiet", "--no-deps", "--ignore-requires-python", "--target", str(folder)]
    command = [sys.executable, "-m", "pip", "install", *options, *_REQUIREMENTS]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InstallError(f"{' and '.join(_REQUIREMENTS)} cannot be installed:\n{done.stderr}")


class _Previous:
    """The handle is inherited: a process that opens it by name takes the queue along when it ends."""

    def __init__(self, name: str, size: Size) -> None:
        from shared_multiprocess_queue import SharedMemoryQueue  # noqa: PLC0415

        self._queue = SharedMemoryQueue(name, create=True, capacity=size.capacity, item_size=size.item_size + 64)

    def sender(self, number: int) -> End:
        end = End()
        end.put, end.get = self._queue.put, self._queue.get
        return end

    receiver = sender

    def remove(self) -> None:
        self._queue.close()
        self._queue.unlink()


def _make(name: str, size: Size) -> Channel:
    return _Previous(name, size)


PEERS = [
    Peer(f"version {VERSION}", _make, "polls", _MODULE, DISTRIBUTION, note="this package before it was written anew"),
]
