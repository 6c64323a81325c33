"""Log records of many processes and threads: none is lost while there is room, and none is waited for without end."""

from __future__ import annotations

import logging
import logging.config
import logging.handlers
import multiprocessing
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from shared_multiprocess_queue import Full, Queue, SharedMemoryQueue
from shared_multiprocess_queue.errors import ArgumentError
from shared_multiprocess_queue.logging import QueueHandler, QueueListener, listen, send_to
from tests.log_records.kept import Kept, logger_of, texts_in
from tests.support.children import in_child, python
from tests.support.queues import MakeQueue, drained
from tests.support.signals import alarms
from tests.support.waiting import SOON, eventually, in_thread, over_after, sleeps

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> Callable[..., logging.Logger]:
    """A function that gives the root logger handlers for the time of the test, in the place of those of pytest."""
    found = logging.getLogger()

    def make(*handlers: logging.Handler) -> logging.Logger:
        monkeypatch.setattr(found, "handlers", list(handlers))
        monkeypatch.setattr(found, "level", logging.INFO)
        return found

    return make


def work(q: SharedMemoryQueue[Any], number: int) -> None:
    send_to(q, "INFO")
    logging.info("worker %d begins with %s", number, threading.Lock())
    try:
        raise LookupError(f"of worker {number}")
    except LookupError:
        logging.exception("worker %d fails", number)


def test_records_of_processes_come_to_the_handlers(start_method: str) -> None:
    kept = Kept()
    context: Any = multiprocessing.get_context(start_method)
    with listen(kept) as listener:
        workers = [context.Process(target=work, args=(listener.queue, number)) for number in range(2)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(SOON)
        assert [worker.exitcode for worker in workers] == [0, 0]
    for number in range(2):
        first, second = (one for one in kept.records if f"worker {number}" in one.getMessage())
        assert first.getMessage().startswith(f"worker {number} begins with <unlocked _thread.lock")
        assert f"worker {number} fails\nTraceback" in second.getMessage()
        assert second.getMessage().endswith(f"LookupError: of worker {number}")
        assert second.processName != multiprocessing.current_process().name


def test_a_listener_takes_the_handlers_of_the_root_logger(root: Callable[..., logging.Logger]) -> None:
    root()
    with pytest.raises(ArgumentError, match=r"'app.log' is no handler of log records"):
        listen("app.log")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="no handler"):
        listen()
    lower, higher = Kept(logging.INFO), Kept(logging.ERROR)
    root(lower, higher)
    with listen() as listener:
        logger = logger_of(QueueHandler(listener.queue))
        logger.info("one")
        logger.error("two")
    assert (lower.texts, higher.texts) == (["one", "two"], ["two"])


# ---- the handler ----------------------------------------------------------------------------------------------------


def test_a_record_waits_for_room(make_queue: MakeQueue) -> None:
    q = make_queue(capacity=1)
    handler = QueueHandler(q, timeout=SOON)
    logger = logger_of(handler)
    logger.warning("one")
    waiting = in_thread(logger.warning, "two")
    eventually(sleeps(q, "put"))
    assert q.get(timeout=SOON).getMessage() == "one"
    waiting.result(SOON)
    assert (texts_in(q), handler.dropped) == (["two"], 0)


def test_what_finds_no_room_in_time_is_counted_and_the_next_do_not_wait(make_queue: MakeQueue) -> None:
    q = make_queue(capacity=2)
    handler = QueueHandler(q, timeout=0.01)
    logger = logger_of(handler)
    for number in range(3):
        logger.warning("%d", number)
    handler.timeout = SOON * 3
    logger.warning("3")  # would hang
    assert handler.dropped == 2
    assert texts_in(q) == ["0", "1"]
    logger.warning("4")
    after, told = texts_in(q)
    assert after == "4"
    assert "has dropped 2 log records before this" in told
    logger.warning("5")
    assert texts_in(q) == ["5"]


def test_a_child_does_not_tell_of_what_its_parent_has_dropped(make_queue: MakeQueue) -> None:
    q = make_queue(capacity=2)
    logger = logger_of(QueueHandler(q, timeout=0))
    for number in range(3):
        logger.warning("%d", number)
    assert texts_in(q) == ["0", "1"]
    assert in_child(lambda: logger.warning("3")) == 0
    assert texts_in(q) == ["3"]


@pytest.mark.parametrize("end", ["shutdown", "close"])
def test_a_queue_that_takes_nothing_any_more_is_no_error_of_the_program(
    make_queue: MakeQueue, end: str, capsys: pytest.CaptureFixture[str]
) -> None:
    q = make_queue()
    handler = QueueHandler(q)
    getattr(q, end)()
    logger_of(handler).warning("late")
    assert handler.dropped == 1
    assert capsys.readouterr().err == ""


def test_a_text_that_is_too_long_is_shortened_in_its_middle(make_queue: MakeQueue, each_engine: str) -> None:
    q = make_queue(item_size=2000)
    handler = QueueHandler(q)
    logger_of(handler).warning("begin %s end", "\U0001f600".join(map(str, range(100_000))))
    (text,) = texts_in(q)
    assert text.startswith("begin 0\U0001f6001\U0001f600")
    assert text.endswith("99999 end")
    assert "characters left out" in text


def test_a_long_traceback_arrives_whole() -> None:
    def nested(depth: int) -> None:
        if depth == 0:
            raise ValueError("at 0")
        try:
            nested(depth - 1)
        except ValueError as error:
            raise ValueError(f"at {depth}" + "." * 1000) from error

    kept = Kept()
    with listen(kept) as listener:
        try:
            nested(60)
        except ValueError:
            logger_of(QueueHandler(listener.queue)).exception("failed")
    (text,) = kept.texts
    assert len(text) > 65_536
    assert all(f"ValueError: at {depth}" in text for depth in range(61))
    assert "left out" not in text


def test_what_cannot_be_pickled_is_told_as_by_the_standard_library(
    make_queue: MakeQueue, capsys: pytest.CaptureFixture[str]
) -> None:
    q = make_queue()
    logger_of(QueueHandler(q)).warning("text", extra={"lock": threading.Lock()})
    assert "--- Logging error ---" in capsys.readouterr().err
    assert q.empty()


def test_a_signal_handler_may_log_while_a_record_is_put(make_queue: MakeQueue, each_engine: str) -> None:
    """Long records take the batch lock of a queue that takes memory as it is used, which the handler then waits for."""
    del make_queue
    with Queue[Any](2) as q:
        handler = QueueHandler(q, timeout=0.02)
        logger = logger_of(handler)
        sent = inside = 0
        is_in = False

        def log(_: object) -> None:
            nonlocal sent, inside
            sent += 1
            inside += is_in
            logger.warning("%s", f"s{sent} " * 2000)

        counted, is_over = 0, over_after(0.2)
        got = 0
        with alarms(log, 0.005):
            while not is_over() or not inside:
                is_in = True
                logger.warning("%s", f"c{counted} " * 2000)
                is_in = False
                counted += 1
                got += len(drained(q))
        got += len(drained(q))
    assert got >= counted + sent - handler.dropped  # and warnings of what was dropped
    assert got > 0


def test_what_is_logged_at_the_end_of_the_interpreter_ends_it() -> None:
    done = python("""
        import atexit, logging, sys, time
        from shared_multiprocess_queue.logging import QueueHandler, listen

        class Slow(logging.StreamHandler):
            def emit(self, record):
                time.sleep(0.001)
                super().emit(record)

        class Last:
            def __del__(self):
                logging.warning("of __del__")

        atexit.register(lambda: logging.warning("of atexit"))
        listener = listen(Slow(sys.stdout))
        logging.basicConfig(handlers=[QueueHandler(listener.queue)])
        last = Last()
        sys.last = Last()
        for number in range(100):
            logging.warning("%d", number)
        atexit.register(lambda: logging.warning("of atexit, too"))
    """)
    assert done.stdout.splitlines() == [*map(str, range(100)), "of atexit, too", "of atexit"]


# ---- the listener ---------------------------------------------------------------------------------------------------


def with_leases(make_queue: MakeQueue) -> SharedMemoryQueue[Any]:
    return make_queue(leases=2)


@pytest.mark.parametrize("make", [lambda make: make(), with_leases], ids=["plain", "with leases"])
@pytest.mark.parametrize("end", ["stop", "shutdown", "none"])
def test_a_listener_ends_when_all_that_was_there_is_handled(
    make_queue: MakeQueue, make: Callable[[MakeQueue], SharedMemoryQueue[Any]], end: str
) -> None:
    q = make(make_queue)
    kept = Kept()
    logger = logger_of(QueueHandler(q))
    for number in range(3):  # it is full
        logger.warning("%d", number)
    listener = QueueListener(q, kept)
    if end == "shutdown":
        q.shutdown()
        listener.start()
    elif end == "stop":
        listener.start()
    else:
        listener.start()
        q.put(None)
    assert listener._thread is not None
    if end != "stop":
        listener._thread.join(SOON)
        assert not listener._thread.is_alive()
    listener.stop()
    listener.stop()
    assert kept.texts == ["0", "1", "2"]
    assert q.empty()
    if q.leases:
        assert q.join(timeout=0), "nothing is leased any more"


def test_a_listener_of_a_queue_that_is_closed_ends(make_queue: MakeQueue) -> None:
    q = make_queue()
    listener = QueueListener(q, Kept())
    listener.start()
    q.close()
    listener.stop()


def test_a_listener_can_be_started_again_and_not_twice(make_queue: MakeQueue) -> None:
    q = make_queue()
    kept = Kept()
    with QueueListener(q, kept) as listener:
        with pytest.raises(RuntimeError, match="running already"):
            listener.start()
        logger_of(QueueHandler(q)).warning("one")
    with listener:
        logger_of(QueueHandler(q)).warning("two")
    assert kept.texts == ["one", "two"]


def test_what_was_to_end_a_listener_that_was_killed_ends_no_other(make_queue: MakeQueue) -> None:
    q = make_queue(leases=1)
    kept = Kept()
    with QueueListener(q, Kept()) as killed:
        end = killed._end
    q.put(end)
    with QueueListener(q, kept):
        logger_of(QueueHandler(q)).warning("one")
    assert kept.texts == ["one"]
    assert q.join(timeout=0)


def test_a_forked_child_does_not_end_the_listener_of_its_parent() -> None:
    kept = Kept()
    with listen(kept) as listener:
        logger = logger_of(QueueHandler(listener.queue))

        def child() -> None:
            listener.stop()
            logger.warning("of the child")

        assert in_child(child) == 0
        logger.warning("of the parent")
    assert kept.texts == ["of the child", "of the parent"]


class Failing(logging.Handler):
    """Fails as few handlers do: not in ``emit``, whose errors logging catches."""

    def handle(self, record: logging.LogRecord) -> bool:
        raise OSError("no such host")


class Exiting(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        sys.exit("by a handler")


def with_a_failing_filter() -> logging.Handler:
    handler = Kept()
    handler.addFilter(lambda record: record.missing)  # type: ignore[attr-defined]
    return handler


class Unreadable:
    """Pickles and does not unpickle."""

    def __reduce__(self) -> tuple[Any, ...]:
        return int, ("no number",)


def test_no_record_and_no_handler_ends_a_listener(make_queue: MakeQueue, capsys: pytest.CaptureFixture[str]) -> None:
    q = make_queue(capacity=5)
    kept = Kept()
    with QueueListener(q, Failing(), with_a_failing_filter(), Exiting(), kept, respect_handler_level=False):
        q.put("no record")
        q.put(Unreadable())
        logger_of(QueueHandler(q)).warning("one")
    stray, unreadable, last = kept.records
    assert stray == "no record"
    assert unreadable.getMessage().startswith("a log record was lost: an item cannot be turned back")
    assert last.getMessage() == "one"
    errors = capsys.readouterr().err
    assert all(error in errors for error in ("no such host", "has no attribute 'missing'", "by a handler"))


def test_a_listener_that_logs_does_not_wait_for_itself(make_queue: MakeQueue) -> None:
    q = make_queue(capacity=1)
    to_queue = QueueHandler(q, timeout=SOON * 3)
    seen: list[int] = []

    class Logs(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage() == "one":
                with suppress(Full):
                    q.put_nowait("in the way")
                logger_of(to_queue).warning("of the listener")  # would hang
                seen.append(to_queue.dropped)

    listener = QueueListener(q, Logs())
    listener.start()
    logger_of(QueueHandler(q)).warning("one")
    eventually(lambda: seen)
    listener.stop()
    assert seen == [1]


def test_records_may_travel_as_dicts_where_no_pickle_is_read(make_queue: MakeQueue) -> None:
    class AsDict(QueueHandler):
        def prepare(self, record: logging.LogRecord) -> Any:
            return vars(super().prepare(record))

    class FromDict(QueueListener):
        def prepare(self, record: Any) -> Any:
            return logging.makeLogRecord(record)

    q = make_queue(serializer="plain")
    kept = Kept()
    with FromDict(q, kept):
        logger_of(AsDict(q)).warning("one of %s", {"a": 1})
    assert kept.texts == ["one of {'a': 1}"]


# ---- settings -------------------------------------------------------------------------------------------------------


def test_a_handler_of_a_dict_of_settings_gets_the_queue_as_it_is(
    make_queue: MakeQueue, root: Callable[..., logging.Logger]
) -> None:
    """On every Python: ``()`` names a function that is called with all other keys."""
    q = make_queue()
    root_logger = root()
    logging.config.dictConfig(
        {
            "version": 1,
            "handlers": {"q": {"()": "shared_multiprocess_queue.logging.QueueHandler", "queue": q, "timeout": 5.0}},
            "root": {"level": "INFO", "handlers": ["q"]},
            "disable_existing_loggers": False,
        }
    )
    (handler,) = root_logger.handlers
    assert isinstance(handler, QueueHandler)
    assert handler.timeout == 5.0
    logging.info("one")
    assert texts_in(q) == ["one"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="logging.config knows queues and listeners from 3.12 on")
@pytest.mark.parametrize("kind", ["by name", "of arguments", "as it is"])
def test_a_dict_of_settings_makes_queue_and_listener_by_their_names(
    make_queue: MakeQueue, root: Callable[..., logging.Logger], run_id: str, kind: str
) -> None:
    made = make_queue(item_size=16_384)
    queues: dict[str, Any] = {
        "by name": "shared_multiprocess_queue.Queue",
        "of arguments": {"()": "shared_multiprocess_queue.SharedMemoryQueue", "name": "q", "run_id": run_id},
        "as it is": {"()": lambda: made},
    }
    root_logger = root()
    logging.config.dictConfig(
        {
            "version": 1,
            "handlers": {
                "kept": {"()": Kept},
                "q": {
                    "class": "shared_multiprocess_queue.logging.QueueHandler",
                    "queue": queues[kind],
                    "listener": "shared_multiprocess_queue.logging.QueueListener",
                    "handlers": ["kept"],
                    ".": {"timeout": 5.0},
                },
            },
            "root": {"level": "INFO", "handlers": ["q"]},
            "disable_existing_loggers": False,
        }
    )
    (handler,) = root_logger.handlers
    assert isinstance(handler, QueueHandler)
    assert handler.timeout == 5.0
    listener = handler.listener  # type: ignore[attr-defined, unused-ignore]
    assert isinstance(listener, QueueListener)
    with listener:
        logging.info("one")
    assert listener.handlers[0].texts == ["one"]  # type: ignore[attr-defined]
    if handler.queue is not made:
        handler.queue.close()
