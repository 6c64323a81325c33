"""Log records: what waits for what, and what the end of a listener, a worker or the program leaves behind."""

from __future__ import annotations

import fcntl
import io
import logging
import os
import signal
import struct
import sys
import termios
import threading
from pathlib import Path
from typing import Any

import pytest

from shared_multiprocess_queue import Queue, SharedMemoryQueue
from shared_multiprocess_queue import logging as log_records
from shared_multiprocess_queue.errors import ArgumentError
from shared_multiprocess_queue.logging import QueueHandler, QueueListener, listen, send_to
from tests.log_records.kept import Kept, logger_of, texts_in
from tests.support.children import in_child, python
from tests.support.queues import MakeQueue, drained
from tests.support.waiting import SOON, eventually, in_thread, sleeps

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


class Gated(Kept):
    """Handles a record when a gate is open."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.is_in = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.is_in.set()
        assert self.gate.wait(SOON)
        super().emit(record)


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> logging.Logger:
    """The root logger without handlers, as it was after the test."""
    found = logging.getLogger()
    monkeypatch.setattr(found, "handlers", [])
    monkeypatch.setattr(found, "level", logging.INFO)
    monkeypatch.setattr(log_records, "_set_aside", [])
    return found


# ---- workers --------------------------------------------------------------------------------------------------------


def test_a_forked_worker_does_not_wait_for_a_handler_of_its_parent(tmp_path: Path, root: logging.Logger) -> None:
    """The thread of the listener is in a write to a full pipe at the fork, and has the lock of the file."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    def is_full() -> bool:
        return struct.unpack("i", fcntl.ioctl(reader, termios.FIONREAD, bytes(4)))[0] >= 65_536  # type: ignore[no-any-return]

    def read_all() -> int:
        os.set_blocking(reader, True)
        size = 0
        while part := os.read(reader, 65_536):
            size += len(part)
        return size

    handler = logging.FileHandler(path)
    root.handlers = [handler]
    listener = listen()
    logger_of(QueueHandler(listener.queue)).warning("x" * 100_000)
    eventually(is_full)

    def work() -> None:
        send_to(listener.queue, "INFO")
        logging.info("of the worker")

    try:
        assert in_child(work) == 0
    finally:
        reading = in_thread(read_all)
        listener.stop()
        handler.close()
        assert reading.result(SOON) == 100_000 + len("\nof the worker\n")
        os.close(reader)


def test_a_process_that_sends_to_its_own_listener_loses_nothing(tmp_path: Path, root: logging.Logger) -> None:
    handler = logging.FileHandler(tmp_path / "log", mode="w")
    root.handlers = [handler]
    with listen() as listener:
        sending = send_to(listener.queue, logging.WARNING, timeout=SOON)
        assert (root.handlers, root.level, sending.timeout) == ([sending], logging.WARNING, SOON)
        logging.warning("one")
    handler.close()
    assert (tmp_path / "log").read_text("utf-8") == "one\n"


# ---- waits ----------------------------------------------------------------------------------------------------------


def test_a_listener_that_passes_records_on_waits_for_room(make_queue: MakeQueue) -> None:
    q = make_queue()
    with SharedMemoryQueue[Any](capacity=1) as further:
        further.put("in the way")
        on = QueueHandler(further, timeout=SOON)
        with QueueListener(q, on):
            logger_of(QueueHandler(q)).warning("one")
            eventually(sleeps(further, "put"))
            assert further.get() == "in the way"
        assert (texts_in(further), on.dropped) == (["one"], 0)


def test_a_handler_waits_again_when_a_record_has_found_room(make_queue: MakeQueue) -> None:
    """In a queue of one place there is none for the warning at once."""
    q = make_queue(capacity=1)
    handler = QueueHandler(q, timeout=0.01)
    logger = logger_of(handler)
    logger.warning("0")
    logger.warning("1")
    handler.timeout = SOON
    assert texts_in(q) == ["0"]
    waiting = in_thread(logger.warning, "2")
    eventually(sleeps(q, "put"))
    assert texts_in(q) == ["2"]
    waiting.result(SOON)
    assert "has dropped 1 log records" in q.get().getMessage()
    logger.warning("3")
    waiting = in_thread(logger.warning, "4")
    eventually(sleeps(q, "put"))
    assert texts_in(q) == ["3"]
    waiting.result(SOON)
    assert (texts_in(q), handler.dropped) == (["4"], 1)


def test_what_is_dropped_while_the_warning_is_made_is_told_by_the_next(make_queue: MakeQueue) -> None:
    q = make_queue(capacity=1)
    told: list[str] = []

    class Interrupted(QueueHandler):
        """A signal handler logs while the warning is made."""

        def prepare(self, record: logging.LogRecord) -> Any:
            if "has dropped" in record.getMessage():
                told.append(record.getMessage())
                if len(told) == 1:
                    logger.warning("of a signal handler")
                    drained(q)
            return super().prepare(record)

    handler = Interrupted(q, timeout=0.01)
    logger = logger_of(handler)
    logger.warning("0")
    logger.warning("1")
    drained(q)
    logger.warning("2")
    drained(q)
    logger.warning("3")
    assert handler.dropped == 2
    assert [" dropped 1 log records" in text for text in told] == [True, True]


def test_a_handler_that_logs_does_not_wait_for_a_thread_that_waits_for_it(make_queue: MakeQueue) -> None:
    q = make_queue(capacity=1)
    logger = logger_of(QueueHandler(q, timeout=None))

    class Logs(Gated):
        def emit(self, record: logging.LogRecord) -> None:
            super().emit(record)
            if record.getMessage() == "one":
                logger.warning("of the listener")  # would wait for the lock that "three" has

    logs = Logs()
    listener = QueueListener(q, logs)
    listener.start()
    logger.warning("one")
    assert logs.is_in.wait(SOON)
    logger.warning("two")
    waiting = in_thread(logger.warning, "three")
    eventually(sleeps(q, "put"))
    logs.gate.set()
    waiting.result(SOON)
    listener.stop()
    assert [text for text in logs.texts if "dropped" not in text] == ["one", "two", "three"]


# ---- ends -----------------------------------------------------------------------------------------------------------

IMPORTS = ["import multiprocessing.util, logging", "import logging, multiprocessing.util"]


@pytest.mark.slow
@pytest.mark.parametrize("imports", IMPORTS)
def test_the_end_of_the_program_waits_for_all_records(imports: str, tmp_path: Path) -> None:
    """By the order of the imports logging.shutdown runs before or after multiprocessing joins the children."""
    python(
        imports
        + """
import atexit, os, sys, threading
from multiprocessing import get_context
from shared_multiprocess_queue import Queue
from shared_multiprocess_queue.logging import QueueListener, send_to

class Slow(logging.FileHandler):
    def emit(self, record):
        is_ending.wait()
        super().emit(record)

def work(queue):
    os.close(writer)
    os.read(reader, 1)  # until the parent ends
    send_to(queue, "INFO")
    logging.info("of the child")

is_ending = threading.Event()
atexit.register(is_ending.set)
reader, writer = os.pipe()
atexit.register(os.close, writer)
handler = Slow(sys.argv[1], mode="w")
handler.setFormatter(logging.Formatter("%(message)s"))
logs = Queue(100)
get_context("fork").Process(target=work, args=(logs,)).start()
QueueListener(logs, handler).start()
send_to(logs, "INFO")
for number in range(50):
    logging.info("%d", number)
""",
        str(tmp_path / "log"),
    )
    assert (tmp_path / "log").read_text("utf-8").splitlines() == [*map(str, range(50)), "of the child"]


def test_an_interrupted_stop_may_be_called_again(make_queue: MakeQueue) -> None:
    q = make_queue(capacity=5)
    gated = Gated()
    listener = QueueListener(q, gated)
    listener.start()
    logger = logger_of(QueueHandler(q))
    for number in range(3):
        logger.warning("%d", number)
    assert gated.is_in.wait(SOON)
    main = threading.get_ident()

    def interrupt() -> None:
        eventually(lambda: q.qsize() == 3)  # two records, and what is to end the listener
        signal.pthread_kill(main, signal.SIGINT)

    interrupting = in_thread(interrupt)
    with pytest.raises(KeyboardInterrupt):
        listener.stop()
    interrupting.result(SOON)
    gated.gate.set()
    listener.stop()
    assert gated.texts == ["0", "1", "2"]


def test_two_threads_may_stop_a_listener(make_queue: MakeQueue) -> None:
    q = make_queue()
    gated = Gated()
    listener = QueueListener(q, gated)
    listener.start()
    logger = logger_of(QueueHandler(q))
    logger.warning("one")
    assert gated.is_in.wait(SOON)
    stopping = [in_thread(listener.stop) for _ in range(2)]
    eventually(q.qsize)
    gated.gate.set()
    for one in stopping:
        one.result(SOON)
    assert q.empty()
    with listener:
        logger.warning("two")
    assert gated.texts == ["one", "two"]


def test_a_handler_cannot_stop_its_listener(make_queue: MakeQueue, capsys: pytest.CaptureFixture[str]) -> None:
    q = make_queue()

    class Stopping(logging.Handler):
        def handle(self, record: logging.LogRecord) -> bool:
            listener.stop()
            return True

    kept = Kept()
    listener = QueueListener(q, Stopping(), kept)
    with listener:
        logger_of(QueueHandler(q)).warning("one")
    assert kept.texts == ["one"]
    assert "wait for itself" in capsys.readouterr().err


def test_a_listener_whose_thread_cannot_start_can_be_stopped(
    make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    listener = QueueListener(make_queue(), Kept())
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        with pytest.raises(RuntimeError, match="can't start"):
            listener.start()
    listener.stop()


def test_what_listen_has_made_cannot_be_started_again() -> None:
    listener = listen(Kept())
    listener.stop()
    with pytest.raises(RuntimeError, match=r"call listen\(\) again"), listener:
        pass
    listener.stop()


def test_an_error_that_cannot_be_printed_ends_no_listener(
    make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(logging.Handler):
        def handle(self, record: logging.LogRecord) -> bool:
            raise OSError("no such host")

    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    q = make_queue()
    kept = Kept()
    with QueueListener(q, Failing(), kept):
        logger_of(QueueHandler(q)).warning("one")
    assert kept.texts == ["one"]


# ---- arguments ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", ["5", -1, float("nan")])
def test_a_timeout_is_a_number_of_seconds(make_queue: MakeQueue, timeout: Any) -> None:
    with pytest.raises(ArgumentError, match="timeout must be a number of seconds"):
        QueueHandler(make_queue(), timeout=timeout)


@pytest.mark.parametrize("kind", [QueueHandler, QueueListener])
def test_a_queue_is_one_of_this_package(kind: Any) -> None:
    with pytest.raises(ArgumentError, match="queue must be a SharedMemoryQueue, not dict"):
        kind({"()": Queue})


def test_a_text_that_is_shortened_keeps_what_half_a_slot_takes(make_queue: MakeQueue) -> None:
    q = make_queue(item_size=20_000)
    logger = logger_of(QueueHandler(q))
    logger.warning(os.urandom(500_000).hex())  # deflated it has 500 kB still
    (text,) = texts_in(q)
    assert 9_900 < len(text) < 10_100
    assert f"({1_000_000 - 10_000:,} characters left out)" in text
