"""Log records of many processes, handled in one of them: the module ``logging`` over a queue of this package.

The process that has the handlers calls ``listen``; the others call ``send_to``, or log through a ``QueueHandler``. The
package does not import this module by itself.

Example:
    >>> import logging
    >>> from shared_multiprocess_queue.logging import listen, send_to
    >>> with listen(logging.FileHandler("app.log")) as listener:
    ...     send_to(listener.queue)  # in each process that logs
    ...     logging.warning("to app.log")
"""

from __future__ import annotations

import atexit
import copy
import logging
import logging.handlers
import os
import threading
from contextlib import suppress
from multiprocessing import active_children
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
    shown,
)
from .queue import SharedMemoryQueue
from .swap import Queue

__all__ = ["QueueHandler", "QueueListener", "listen", "send_to"]

_CAPACITY: Final = 1000  # records; 4 KiB each, or 64 KiB if all are as long as possible
_PATIENCE: Final = 1.0  # seconds
_LAST: Final = -1  # priority of what multiprocessing does at the end of a process after it has joined the children
_END: Final = f"{__name__}: the end of listener "  # a text, so that a queue of any format takes it


_REFUSALS: Final = (Full, ShutDown, QueueClosedError)

_is_ending = threading.Event()
atexit.register(_is_ending.set)  # before logging.shutdown, which is registered already

_set_aside: list[logging.Handler] = []  # by send_to; one that nothing refers to would close its file


class _ThisThread(threading.local):
    """What a thread is doing.

    Attributes:
        listens_to: of which segment it is the listener, with a record in hand.
    """

    listens_to: object = None


_this_thread = _ThisThread()


class QueueHandler(logging.handlers.QueueHandler):
    """Puts log records into a queue, and waits if it is full.

    If there is no room in time, the record is dropped and counted, and the records after it do not wait until one has
    found room. A warning that says how many were dropped follows that one. A record that is dropped because the queue
    was closed or shut down is counted, too. Each record is prepared as by the class of the standard library: its text,
    with the traceback, takes the place of its arguments and exception. A text that is too long for a slot, even
    deflated, is shortened in its middle.

    Threads do not wait for each other in it: its lock guards the numbers only, and not ``emit``.

    Args:
        queue: any ``SharedMemoryQueue``, for example that of ``listen``.
        timeout: seconds that a record waits for room; 0 does not wait, None waits without end.

    Attributes:
        timeout: the same; may be set.
        dropped: records that this handler has dropped for want of room; a forked child counts on from the number of its
            parent. It does not count what cannot be pickled or shortened (``handleError`` tells of that), what was in
            the queue when it went, and what a listener that was killed had in hand.

    Raises:
        ArgumentError: the queue is none of this package, or the timeout no number of seconds; a ValueError.
    """

    def __init__(self, queue: SharedMemoryQueue[Any], timeout: float | None = _PATIENCE) -> None:
        super().__init__(_checked(queue))
        if timeout is not None and not (isinstance(timeout, (int, float)) and timeout >= 0):
            raise ArgumentError(f"timeout must be a number of seconds, 0 or more, or None, not {timeout!r}")
        self.queue: SharedMemoryQueue[Any] = queue
        self.setFormatter(logging.Formatter())  # basicConfig gives its own to a handler without one: all would be twice
        self.timeout = timeout
        self.dropped = 0
        self._told = 0  # of which of these there has been a warning
        self._waits = True
        self._pid = os.getpid()
        self._counting = threading.RLock()  # a signal handler may log

    def handle(self, record: logging.LogRecord) -> Any:
        """Filter and emit a record, without the lock: a thread that waits for room must not make the others wait."""
        passed = self.filter(record)
        if passed:
            self.emit(passed if isinstance(passed, logging.LogRecord) else record)
        return passed

    def enqueue(self, record: logging.LogRecord) -> None:
        """Put a prepared record, or count it."""
        if self._pid != os.getpid():
            self._begin_in_child()
        try:
            self._put(record, self._patience())
        except _REFUSALS:
            with self._counting:
                self.dropped += 1
            self._has_found_no_room()
        else:
            self._waits = True
            self._tell()

    def _begin_in_child(self) -> None:
        self._counting = threading.RLock()  # a thread of the parent may have had it
        self._told = self.dropped  # the parent tells of its own
        self._waits = True
        self._pid = os.getpid()

    def _patience(self) -> float | None:
        # The listener of the queue is the one that makes room, so in its thread a record would wait for itself.
        return self.timeout if self._waits and not self._is_listener() else 0

    def _is_listener(self) -> bool:
        return _this_thread.listens_to == self.queue._identity

    def _has_found_no_room(self) -> None:
        if not self._is_listener():  # which has not waited
            self._waits = False

    def _tell(self) -> None:
        """Put a warning of what was dropped, if there is something that none has told of."""
        with self._counting:
            untold = self.dropped - self._told
            self._told += untold
        if not untold:
            return
        text = f"process {os.getpid()} has dropped {untold:,} log records before this, for which there was no room"
        try:
            self.queue.put(self.prepare(_warning(text)), timeout=self._patience())
        except BaseException as error:
            with self._counting:
                self._told -= untold  # a later record tells of them
            if not isinstance(error, _REFUSALS):
                raise
            self._has_found_no_room()

    def _put(self, record: logging.LogRecord, timeout: float | None) -> None:
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

    Raises:
        ArgumentError: the queue is none of this package, or a handler is none; a ValueError.
    """

    def __init__(
        self, queue: SharedMemoryQueue[Any], *handlers: logging.Handler, respect_handler_level: bool = False
    ) -> None:
        _check_handlers(handlers)
        super().__init__(_checked(queue), *handlers, respect_handler_level=respect_handler_level)
        self.queue: SharedMemoryQueue[Any] = queue
        self._end = ""
        self._ended = threading.Event()  # an interrupted join takes a thread for ended before Python 3.13
        self._stopping = threading.RLock()
        self._stop_at_exit: Finalize | None = None
        self._stop_at_shutdown: logging.Handler | None = None
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
        self._end = f"{_END}{os.urandom(8).hex()}"  # so what was to end an earlier thread does not end this one
        self._ended = threading.Event()
        self._stopping = threading.RLock()
        self._pid = os.getpid()
        try:
            super().start()
        except RuntimeError:  # the system has no thread left
            self._thread = None
            raise
        self._stop_at_exit = Finalize(None, self.stop, exitpriority=_LAST)
        self._stop_at_shutdown = _AtShutdown(self)

    def stop(self) -> None:
        """Wait until all records that are in the queue by now are handled, and end the thread.

        It may be called more than once. In a forked child, which has no such thread, it ends nothing.
        """
        if self._pid != os.getpid():
            return
        if threading.current_thread() is self._thread:
            raise RuntimeError("a handler cannot stop the listener that it is a handler of: it would wait for itself")
        with self._stopping:
            thread = self._thread
            if thread is None:
                return
            self.enqueue_sentinel()
            while not self._ended.wait(_PATIENCE):
                if self._has_nothing():  # then another listener of this queue has taken what was to end this one
                    self.enqueue_sentinel()
            thread.join()
            self._thread = None
            if self._stop_at_exit is not None:
                self._stop_at_exit.cancel()
            self._stop_at_shutdown = None

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
        """Hand a record to each handler; what one raises is printed, and keeps it from no other one."""
        before, _this_thread.listens_to = _this_thread.listens_to, self.queue._identity
        try:
            prepared = self.prepare(record)
            for handler in self.handlers:
                try:
                    if not self.respect_handler_level or prepared.levelno >= handler.level:
                        handler.handle(prepared)
                except BaseException:  # also of sys.exit()
                    _print_error(handler, prepared)
        except Exception:
            _print_error(logging.Handler(), record)
        finally:
            _this_thread.listens_to = before

    def _monitor(self) -> None:
        try:
            super()._monitor()  # type: ignore[misc]  # typeshed does not have it
        finally:
            self._ended.set()

    def _is_running(self) -> bool:
        return self._pid == os.getpid() and self._thread is not None and not self._ended.is_set()

    def _has_nothing(self) -> bool:
        try:
            return self.queue.empty()
        except QueueClosedError:
            return False

    def _put_end(self) -> None:
        with suppress(ShutDown, QueueClosedError):  # these end it, too
            self.queue.put(self._end, timeout=_PATIENCE)


class _AtShutdown(logging.Handler):
    """Ends a listener before ``logging.shutdown`` closes its handlers at the end of the program.

    If multiprocessing was imported before logging, that is before multiprocessing joins the child processes. A shutdown
    closes the newest handlers first, so this one comes before those of the listener.
    """

    def __init__(self, listener: QueueListener) -> None:
        super().__init__()
        self._listener = listener

    def flush(self) -> None:
        """Wait for the child processes and stop the listener, if the program ends."""
        if _is_ending.is_set() and self._listener._is_running():  # else it is dictConfig that has called shutdown
            for child in active_children():
                if not child.daemon:
                    child.join()
            self._listener.stop()


class _OwnListener(QueueListener):
    """The listener of a queue that was made for it, and that is shut down with it."""

    def start(self) -> None:
        if self._pid and not self._is_running():
            raise RuntimeError("what listen() has returned runs once, in one process; call listen() again")
        super().start()

    def _put_end(self) -> None:
        with suppress(QueueClosedError):
            self.queue.shutdown()

    def stop(self) -> None:
        super().stop()
        if self._pid == os.getpid():
            self.queue.close()


def _check_handlers(handlers: tuple[logging.Handler, ...]) -> None:
    for handler in handlers:
        if not callable(getattr(handler, "handle", None)):
            raise ArgumentError(
                f"{shown(handler)} is no handler of log records; pass a logging.Handler, for example "
                f"logging.FileHandler(path)"
            )


def listen(*handlers: logging.Handler) -> QueueListener:
    """Make a queue for log records, and start to hand what comes there to handlers.

    The queue is the attribute ``queue`` of the listener; pass it to the processes that log. It has 1000 places and goes
    with its last user. When the listener stops, it is shut down: what processes log after that is dropped.

    Args:
        handlers: that get each record of their level and above; without any, those that the root logger has now.

    Raises:
        ArgumentError: there are no handlers, or one is none; a ValueError.
    """
    _check_handlers(handlers)
    found = handlers or tuple(logging.getLogger().handlers)
    if not found:
        raise ArgumentError("there is no handler for the records; pass one, or call logging.basicConfig() first")
    queue: Queue[Any] = Queue(_CAPACITY)
    listener = _OwnListener(queue, *found, respect_handler_level=True)
    listener.start()
    return listener


def send_to(
    queue: SharedMemoryQueue[Any], level: int | str | None = None, timeout: float | None = _PATIENCE
) -> QueueHandler:
    """Send what this process logs to a queue: give the root logger a ``QueueHandler`` in the place of its handlers.

    These are not closed, unlike by ``logging.basicConfig(force=True)``. So it is for forked workers, too: the handlers
    that they inherit are the parent's, and to close a file that a thread of the parent wrote to at the fork would wait
    for that thread without end. And the listening process may call it: the handlers of its listener go on.

    Args:
        queue: any ``SharedMemoryQueue``, for example that of ``listen``.
        level: of the root logger; None leaves it as it is.
        timeout: seconds that a record waits for room, as of ``QueueHandler``.

    Returns:
        The handler, which counts what it drops.

    Raises:
        ArgumentError: as of ``QueueHandler``.

    Example:
        >>> send_to(listener.queue, level=logging.INFO)
    """
    handler = QueueHandler(queue, timeout)
    root = logging.getLogger()
    _set_aside.extend(root.handlers)
    root.handlers = [handler]
    if level is not None:
        root.setLevel(level)
    return handler


def _checked(queue: SharedMemoryQueue[Any]) -> SharedMemoryQueue[Any]:
    if not isinstance(queue, SharedMemoryQueue):
        raise ArgumentError(
            f"queue must be a SharedMemoryQueue, not {type(queue).__name__}; in a dictConfig of Python 3.11 name the "
            f"handler by '()' and make the queue in the program"
        )
    return queue


def _print_error(handler: logging.Handler, record: logging.LogRecord) -> None:
    """Print the error that is being handled, if that can be done: stderr may be closed."""
    with suppress(Exception):
        handler.handleError(record)


def _warning(text: str) -> logging.LogRecord:
    return logging.LogRecord(__name__, logging.WARNING, __file__, 0, text, None, None)


def _shortened(record: logging.LogRecord, limit: int) -> logging.LogRecord | None:
    """Return a prepared record with a text that takes half of a slot at most; None if its text is not what is long."""
    text = record.msg if isinstance(record, logging.LogRecord) else None  # prepare() may have made something else of it
    if not isinstance(text, str):
        return None
    data, most = text.encode(errors="surrogatepass"), limit // 4
    if len(data) <= 2 * most:
        return None
    begin, end = (part.decode(errors="ignore") for part in (data[:most], data[-most:]))
    shorter = copy.copy(record)
    shorter.msg = shorter.message = (
        f"{begin}\n... ({len(text) - len(begin) - len(end):,} characters left out) ...\n{end}"
    )
    return shorter
