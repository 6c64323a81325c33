"""What tests of log records log to, and what has come of it."""

from __future__ import annotations

import logging
from typing import Any

from shared_multiprocess_queue import SharedMemoryQueue
from tests.support.queues import drained


class Kept(logging.Handler):
    """Keeps what it is given."""

    def __init__(self, level: int = logging.NOTSET) -> None:
        super().__init__(level)
        self.records: list[Any] = []  # a handler gets whatever lies in the queue

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    @property
    def texts(self) -> list[str]:
        return [record.getMessage() for record in self.records]


def logger_of(handler: logging.Handler) -> logging.Logger:
    logger = logging.Logger("of a test")
    logger.addHandler(handler)
    return logger


def texts_in(q: SharedMemoryQueue[Any]) -> list[str]:
    return [item if isinstance(item, str) else item.getMessage() for item in drained(q)]
