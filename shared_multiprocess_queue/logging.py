"""Log records of many processes, handled in one of them: the module ``logging`` over a queue of this package.

The process that has the handlers calls ``listen``; the others log through a ``QueueHandler``. The package does not
import this module by itself.

Example:
    >>> import logging
    >>> from shared_multiprocess_queue.logging import QueueHandler, listen
    >>> with listen(logging.FileHandler("app.log")) as listener:
    ...     logging.basicConfig(handlers=[QueueHandler(listener.queue)], force=True)  # in each process that logs
    ...     logging.warning("to app.log")
"""

from __future__ import annotations

import copy
import logging
import logging.handlers
import os
import threading
from contextlib import suppress
from multiprocessing.util import Finalize
from types import TracebackType
from typing import Any, Final, Self

from .errors import (
    ArgumentError,
    DeserializationError,
    Empty,
    Full,
    ItemTooLargeError,
    QueueClosedError,
    ShutDown,
)
from .queue import SharedMemoryQueue
from .swap import Queue

__all__ = ["QueueHandler", "QueueListener", "listen"]

_CAPACITY: Final = 1000  # records; 4 KiB each, or 64 KiB if all are as long as possible
_PATIENCE: Final = 1.0  # seconds
_LAST: Final = -1  # priority of what multiprocessing does at the end of a process after it has joined the children
_END: Final = f"{__name__}: the end of listener "  # a text, so that a queue of any format takes it


class _ThisThread(threading.local):
    """What a thread is doing.

    Attributes:
        handles: whether it is a listener's, with a record in hand.
    """

    handles = False


_this_thread = _ThisThread()


class QueueHandler(logging.handlers.QueueHandler):
    """Puts log records into a queue, and waits if it is full.

    If there is no room in time, the record is dropped and counted, and the records after it do not wait until there is
    room again. Then a warning that says how many were dropped follows the first record. A record that is dropped
    because the queue was closed or shut down is counted, too. Each record is prepared as by the class of the standard
    library: its text, with the traceback, takes the place of its arguments and exception. A text that is too long for a
    slot, even deflated, is shortened in its middle.

    Args:
        queue: any ``SharedMemoryQueue``, for example that of ``listen``.
        timeout: seconds that a record waits for room; 0 does not wait.

    Attributes:
        timeout: the same; may be set.
        dropped: records that this handler has dropped; a forked child counts on from the number of its parent.
    """

    def __init__(self, queue: SharedMemoryQueue[Any], timeout: float = _PATIENCE) -> None:
        super().__init__(queue)
        self.queue: SharedMemoryQueue[Any] = queue
        self.setFormatter(logging.Formatter())  # basicConfig gives its own to a handler without one: all would be twice
        self.timeout = timeout
        self.dropped = 0
        self._untold = (os.getpid(), 0)  # of which process, and how many that no warning has told of

    def enqueue(self, record: logging.LogRecord) -> None:
        """Put a prepared record, or count it."""
        pid, untold = self._untold
        if pid != os.getpid():  # the parent tells of its own
            untold = 0
        # A listener that logs is the one that makes room, so it would wait for itself.
        timeout = 0 if untold or _this_thread.handles else self.timeout
        try:
            self._put(record, timeout)
        except (Full, ShutDown, QueueClosedError):
            self.dropped += 1
            self._untold = os.getpid(), untold + 1
            return
        if untold:
            text = f"process {os.getpid()} has dropped {untold:,} log records before this, for which there was no room"
            with suppress(Full, ShutDown, QueueClosedError):
                self.queue.put(self.prepare(_warning(text)), timeout=0)
                self._untold = os.getpid(), 0

    def _put(self, record: logging.LogRecord, timeout: float) -> None:
        try:
            self.queue.put(record, timeout=timeout)
        except ItemTooLargeError as error:
            shorter = _shortened(record, error.limit)
            if shorter is None:
                raise
            self.queue.put(shorter, timeout=timeout)


class QueueListener(logging.handlers.QueueListener):
    """Takes log records from a queue in a thread, and hands them to handlers.

    A queue has one listener. It ends when ``stop`` is called, at the end of its ``with`` block, at the end of the
    process, or if the queue is shut down, after it has handled all records that were there. As with the class of the
    standard library, a None in the queue ends it, too.

    Args:
        queue: any ``SharedMemoryQueue`` of mode "mpmc".
        handlers: that get each record.
        respect_handler_level: whether a handler gets only the records of its level and above.
    """

    def __init__(
        self, queue: SharedMemoryQueue[Any], *handlers: logging.Handler, respect_handler_level: bool = False
    ) -> None:
        super().__init__(queue, *handlers, respect_handler_level=respect_handler_level)
        self.queue: SharedMemoryQueue[Any] = queue
        self._end = f"{_END}{os.urandom(8).hex()}"
        self._stop_at_exit: Finalize | None = None
        self._pid = 0

    def __enter__(self) -> Self:
        if not self._is_running():
            self.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the thread.

        Raises:
            RuntimeError: it is running.
        """
        if self._is_running():
            raise RuntimeError("this listener is running already; one listener of a queue is enough")
        super().start()
        self._pid = os.getpid()
        self._stop_at_exit = Finalize(None, self.stop, exitpriority=_LAST)

    def stop(self) -> None:
        """Wait until all records that are in the queue by now are handled, and end the thread.

        It may be called more than once. In a forked child, which has no such thread, it ends nothing.
        """
        thread = self._thread
        if thread is None:
            return
        self.enqueue_sentinel()
        thread.join(_PATIENCE)
        while thread.is_alive():
            if self._has_nothing():  # then another listener of this queue has taken what was to end this one
                self.enqueue_sentinel()
            thread.join(_PATIENCE)
        self._thread = None
        if self._stop_at_exit is not None:
            self._stop_at_exit.cancel()

    def enqueue_sentinel(self) -> None:
        """Put what ends this listener, and wait for room, which its thread makes."""
        while self._is_running():
            with suppress(Full):
                self._put_end()
                return

    def dequeue(self, block: bool) -> Any:
        """Return the next record; None ends the thread, and so does ``queue.Empty``."""
        while True:
            lost = ""
            try:
                item = self.queue.get(block)
            except (ShutDown, QueueClosedError):
                raise Empty from None
            except DeserializationError as error:
                lost = f"a log record was lost: {error}"
            if lost:
                self.handle(_warning(lost))
            elif not (isinstance(item, str) and item.startswith(_END)):
                return item
            elif item == self._end:
                return None
            elif self.queue.leases:  # it was for a listener that was killed, or for another one
                self.queue.task_done()

    def handle(self, record: logging.LogRecord) -> None:
        """Hand a record to the handlers; an error of theirs is printed and does not end the thread."""
        _this_thread.handles = True
        try:
            super().handle(record)
        except Exception:
            logging.Handler().handleError(record)
        finally:
            _this_thread.handles = False

    def _is_running(self) -> bool:
        return self._pid == os.getpid() and self._thread is not None and self._thread.is_alive()

    def _has_nothing(self) -> bool:
        try:
            return self.queue.empty()
        except QueueClosedError:
            return False

    def _put_end(self) -> None:
        with suppress(ShutDown, QueueClosedError):  # these end it, too
            self.queue.put(self._end, timeout=_PATIENCE)


class _OwnListener(QueueListener):
    """The listener of a queue that was made for it, and that is shut down with it."""

    def _put_end(self) -> None:
        with suppress(QueueClosedError):
            self.queue.shutdown()

    def stop(self) -> None:
        super().stop()
        if self._pid == os.getpid():
            self.queue.close()


def listen(*handlers: logging.Handler) -> QueueListener:
    """Make a queue for log records, and start to hand what comes there to handlers.

    The queue is the attribute ``queue`` of the listener; pass it to the processes that log. It has 1000 places and goes
    with its last user. When the listener stops, it is shut down: what processes log after that is dropped.

    Args:
        handlers: that get each record of their level and above; without any, those that the root logger has now.

    Raises:
        ArgumentError: there are no handlers; a ValueError.
    """
    found = handlers or tuple(logging.getLogger().handlers)
    if not found:
        raise ArgumentError("there is no handler for the records; pass one, or call logging.basicConfig() first")
    queue: Queue[Any] = Queue(_CAPACITY)
    listener = _OwnListener(queue, *found, respect_handler_level=True)
    listener.start()
    return listener


def _warning(text: str) -> logging.LogRecord:
    return logging.LogRecord(__name__, logging.WARNING, __file__, 0, text, None, None)


def _shortened(record: logging.LogRecord, limit: int) -> logging.LogRecord | None:
    """Return a prepared record with a text that takes half of a slot at most; None if its text is not what is long."""
    text = record.msg if isinstance(record, logging.LogRecord) else None  # prepare() may have made something else of it
    half = limit // 16  # characters, of which each takes 4 bytes at most
    if not isinstance(text, str) or len(text) <= 2 * half:
        return None
    shorter = copy.copy(record)
    shorter.msg = shorter.message = (
        f"{text[:half]}\n... ({len(text) - 2 * half:,} characters left out) ...\n{text[-half:]}"
    )
    return shorter
