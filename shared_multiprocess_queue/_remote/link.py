"""The connections of a handle to its server: runs calls in threads, and asks again after lost connections."""

from __future__ import annotations

import os
import queue
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, TypeVar

from .._platform import clock
from ..errors import QueueClosedError
from .calls import closed
from .finding import Finder, is_elsewhere
from .requests import Ask, Call, Step, Wake, packed
from .trouble import CONNECTIONS, SILENCE, BusyError, Trouble, is_passing, no_retry, options
from .where import Place
from .wire import exchange

import redis  # isort: skip  # behind trouble.py, which says what to install if it is not there
from redis import exceptions  # isort: skip

__all__ = ["Link"]

_BOTH_WAYS: Final = 2  # SHUT_RDWR

T = TypeVar("T")


class _Lines:
    """Connections, each for one request at a time. If all are in use, a call waits for one.

    Args:
        make: makes one.
        finder: knows where it leads.
        most: of them.
    """

    def __init__(self, make: Callable[[], Any], finder: Finder, most: int) -> None:
        self._make = make
        self._finder = finder
        self._free: list[Any] = []  # the one that was used last is the next
        self._used: set[Any] = set()
        # A semaphore that costs little, and that an interrupt cannot leave locked, as it could one written in Python.
        self._left: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(most):
            self._left.put(None)
        self._is_closed = False

    def use(self, data: bytes, seconds: float) -> Any:
        """Send a command; return the answer.

        Args:
            data: the command.
            seconds: to wait for a connection that is not in use.
        """
        permits: list[None] = []
        line: Any = None
        try:
            try:
                permits.extend(map(self._left.get, (True,), (seconds,)))  # one step: no interrupt comes in between
            except queue.Empty:
                raise BusyError from None
            line = self._any()
            self._used.add(line)
            try:
                if line._sock is None:
                    self._finder.direct(line)
                answer = exchange(line, data)
            except BaseException as error:
                if not isinstance(error, exceptions.ResponseError) or is_elsewhere(error):
                    line.disconnect()  # an answer may be on its way, or come from another server
                    self._finder.note(error)
                self._free.append(line)
                raise
            self._free.append(line)
            return answer
        finally:
            if permits:
                self._left.put(None)  # first: an interrupt that comes in a later step leaves nothing taken
            self._used.discard(line)
            if self._is_closed:
                self.close()

    def _any(self) -> Any:
        try:
            return self._free.pop()
        except IndexError:
            return self._make()

    def cut(self) -> None:
        """Close them, and cut those in use, so that their requests end at once."""
        self.close()
        for line in list(self._used):
            with suppress(Exception):  # it is not connected, or not any more
                line._sock.shutdown(_BOTH_WAYS)

    def close(self) -> None:
        """Close those that are not in use; the others follow when they are not."""
        self._is_closed = True
        with suppress(IndexError):
            while True:
                self._free.pop().disconnect()


class Link:
    """Runs calls in threads.

    Args:
        place: of the server.
        patience: seconds without an answer after which it is given up.
        most: connections for requests, and as many for waiting, so that no request waits for a wait.
        silence: seconds without an answer after which a connection is lost.
    """

    def __init__(self, place: Place, patience: float, most: int = CONNECTIONS, silence: float = SILENCE) -> None:
        self._place = place
        self._patience = patience
        self._silence = silence
        self._pid = os.getpid()
        self._is_closed = False
        self._end: queue.SimpleQueue[None] = queue.SimpleQueue()  # what is in it wakes those that pause, one by one
        pool = redis.ConnectionPool.from_url(place.server, retry=no_retry(), **options(silence))
        finder = Finder(place)
        self._asking = _Lines(pool.make_connection, finder, most)
        self._waiting = _Lines(pool.make_connection, finder, most)

    def run(self, call: Call[T]) -> T:
        """Run a call to its end."""
        answer: Any = None
        try:
            while True:
                answer = self.step(call.send(answer))
        except StopIteration as end:
            result: T = end.value
            return result  # at once: an interrupt in a further step would lose it
        except BaseException:
            call.close()
            raise

    def step(self, step: Step) -> Any:
        """Do what a call asks for; return the answer."""
        if isinstance(step, Ask):
            return self._insist(step.data(), step)
        self._check_process()
        self._wait(step)
        return None

    def command(self, *words: Any) -> Any:
        """Run a command of the server that may be repeated."""
        return self._insist(packed(*words), None)

    def _check_process(self) -> None:
        """Check that no request goes over connections that a forked child shares with its parent."""
        if self._pid != os.getpid():
            raise QueueClosedError(
                f"this handle of queue {self._place.shown} is that of process {self._pid}, from which this one was "
                f"forked; use the queue itself here, and not what was got from it before"
            )

    def _insist(self, data: bytes, ask: Ask | None) -> Any:
        self._check_process()
        trouble: Trouble | None = None
        while True:
            try:
                return self._asking.use(data, self._silence)
            except exceptions.NoScriptError:
                assert ask is not None
                data = ask.data_with_text()
            except (exceptions.RedisError, OSError) as error:
                trouble = trouble or Trouble(self._place, self._patience, clock.FOREVER if ask is None else ask.until)
                self._pause(trouble.pause(error))
                if self._is_closed:
                    closed(self._place.shown)

    def _pause(self, seconds: float) -> None:
        """Wait for a time, or until the link is closed."""
        with suppress(queue.Empty):
            self._end.get(timeout=seconds)
            self._end.put(None)  # for the next one

    def _wait(self, wake: Wake) -> None:
        if wake.key is None:
            clock.sleep(wake.seconds)
            return
        began = clock.now()
        try:
            self._waiting.use(packed("BLPOP", wake.key, wake.seconds), wake.seconds)
        except BusyError:
            return  # it has waited
        except (exceptions.RedisError, OSError) as error:  # the next request says whether the server is back
            if not is_passing(error):
                Trouble(self._place, 0, 0).pause(error)
            clock.sleep(min(0.01, max(wake.seconds - (clock.now() - began) / 1e9, 0)))

    def close(self) -> None:
        """Close the connections, those in use when their requests are answered; let none wait."""
        self._is_closed = True
        self._end.put(None)
        self._asking.close()
        self._waiting.cut()

    def cut(self) -> None:
        """Close the connections, also those whose requests are not answered."""
        self.close()
        self._asking.cut()
