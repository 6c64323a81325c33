"""Listeners that are killed, one after the other, while processes log."""

from __future__ import annotations

import collections
import logging
import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from shared_multiprocess_queue import SharedMemoryQueue
from shared_multiprocess_queue.logging import QueueHandler, QueueListener
from tests.support.children import end_of, fork
from tests.support.queues import MakeQueue
from tests.support.waiting import LONG, eventually

WRITERS, RECORDS, KILLS = 2, 500, 5


class Lines(logging.Handler):
    """Writes each record by one system call, so that a kill tears no line."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def emit(self, record: logging.LogRecord) -> None:
        os.write(self.file, f"{record.getMessage()}\n".encode())


def listen_until_killed(q: SharedMemoryQueue[Any], path: Path) -> None:
    QueueListener(q, Lines(path)).start()
    signal.pause()


def write(q: SharedMemoryQueue[Any], writer: int) -> None:
    handler = QueueHandler(q, timeout=LONG)
    logger = logging.Logger("of a test")
    logger.addHandler(handler)
    for number in range(RECORDS):
        logger.warning("%d.%d %s", writer, number, "x" * (5000 if number % 10 == 0 else 10))
    assert handler.dropped == 0


@pytest.mark.slow
def test_with_leases_no_record_is_lost_though_listeners_are_killed(make_queue: MakeQueue, tmp_path: Path) -> None:
    q = make_queue(capacity=10, leases=1)
    path = tmp_path / "lines"
    path.touch()
    writers = [fork(lambda writer=writer: write(q, writer)) for writer in range(WRITERS)]  # type: ignore[misc]

    def has_written_more_than(size: int) -> bool:
        is_over = all(os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) for pid in writers)
        return is_over or path.stat().st_size > size

    for kill in range(KILLS):
        listener = fork(lambda: listen_until_killed(q, path))
        eventually(partial(has_written_more_than, path.stat().st_size), f"a record for listener {kill}")
        os.kill(listener, signal.SIGKILL)
        os.waitpid(listener, 0)
    with QueueListener(q, Lines(path)):
        assert [end_of(writer) for writer in writers] == [0] * WRITERS
    found = collections.Counter(line.partition(" ")[0] for line in path.read_text("utf-8").splitlines())
    assert set(found) == {f"{writer}.{number}" for writer in range(WRITERS) for number in range(RECORDS)}
    assert found.total() <= WRITERS * RECORDS + KILLS, "twice only what a killed listener had in hand"
