"""As ``link.py``, by the connections of redis-py for asyncio: for tasks of one event loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, TypeVar

import redis.asyncio
from redis import exceptions
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from .._platform import clock
from .calls import closed
from .finding import Finder, is_elsewhere
from .requests import Ask, Call, Step, Wake, packed
from .trouble import CONNECTIONS, SILENCE, BusyError, Trouble, is_passing, options
from .where import Place
from .wire import moved

__all__ = ["TaskLink"]

_TURN: Final = 0.05  # seconds in which a loop that comes late reads what is there

T = TypeVar("T")


class _TaskLines:
    """Connections, each for one request at a time. If all are in use, a call waits for one."""

    def __init__(self, make: Callable[[], Any], finder: Finder, most: int) -> None:
        self._make = make
        self._finder = finder
        self._free: list[Any] = []
        self._used: set[Any] = set()
        self._left = asyncio.Semaphore(most)
        self._is_closed = False

    async def use(self, data: bytes, seconds: float) -> Any:
        """Send a command; return the answer.

        Args:
            data: the command.
            seconds: to wait for a connection that is not in use.
        """
        if self._left.locked():
            try:
                async with asyncio.timeout(seconds):
                    await self._left.acquire()
            except TimeoutError:
                raise BusyError from None
        else:
            await self._left.acquire()  # at once
        line = self._free.pop() if self._free else self._make()
        self._used.add(line)
        has_answered = False
        try:
            try:
                with _Silence(line):
                    if not line.is_connected:
                        await asyncio.to_thread(self._finder.direct, line)
                    await line.send_packed_command([data])
                    answer = await line.read_response()
            except exceptions.ResponseError as error:
                has_answered = not is_elsewhere(error)
                raise
            has_answered = True
            return answer
        except BaseException as error:
            if not has_answered:
                self._finder.note(error)
            raise
        finally:
            if not has_answered:
                _drop(line)  # an answer may be on its way, or come from another server
            self._used.discard(line)
            self._free.append(line)
            self._left.release()
            if self._is_closed:
                self.close()

    def close(self) -> None:
        """Close those that are not in use; the others follow when they are not."""
        self._is_closed = True
        while self._free:
            _drop(self._free.pop())

    def cut(self) -> None:
        """Close them, and cut those in use, so that their requests end at once."""
        self.close()
        for line in list(self._used):
            _drop(line)


class _Silence:
    """Ends a request on whose connection nothing has moved for a while, however long the whole takes.

    The loop may come late, from work of its own, and have read nothing for as long. So it gets another turn first.
    """

    def __init__(self, line: Any) -> None:
        self._line = line
        self._is_over = False

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        self._loop = asyncio.get_running_loop()
        self._wait(SILENCE, self._moved(), False)

    def _moved(self) -> bytes:
        writer = self._line._writer
        return b"" if writer is None else moved(writer.get_extra_info("socket"))

    def _wait(self, seconds: float, before: bytes, is_again: bool) -> None:
        self._timer = self._loop.call_later(seconds, self._look, before, is_again)

    def _look(self, before: bytes, is_again: bool) -> None:
        now = self._moved()
        if now != before:
            self._wait(SILENCE, now, False)
        elif not is_again:
            self._wait(_TURN, now, True)
        else:
            self._is_over = True
            self._task.cancel()

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        if self._is_over and self._task.uncancel() <= self._cancelling and exception_type is asyncio.CancelledError:
            raise exceptions.TimeoutError("the server is silent") from None


def _drop(line: Any) -> None:
    """Close a connection without waiting for anything; its loop may be closed."""
    line._parser.on_disconnect()
    writer, line._reader, line._writer = line._writer, None, None
    if writer is None:
        return
    with suppress(Exception):  # the loop is closed
        writer.transport.abort()
        return
    with suppress(Exception):  # what a loop would do in its next turn
        writer.transport._call_connection_lost(None)


class TaskLink:
    """Runs calls in the tasks of the running event loop.

    Args:
        place: of the server.
        patience: seconds without an answer after which it is given up.
        pid: of the process whose sessions the calls use.
    """

    def __init__(self, place: Place, patience: float, pid: int) -> None:
        self._place = place
        self._patience = patience
        self._pid = pid
        self._is_closed = False
        given = {**options(SILENCE), "socket_timeout": None}  # which would make a task of each sending
        pool = redis.asyncio.ConnectionPool.from_url(place.server, retry=Retry(NoBackoff(), 0), **given)
        finder = Finder(place)
        self._asking = _TaskLines(pool.make_connection, finder, CONNECTIONS)
        self._waiting = _TaskLines(pool.make_connection, finder, CONNECTIONS)

    async def run(self, call: Call[T]) -> T:
        """Run a call to its end."""
        task = asyncio.current_task()
        assert task is not None
        cancelled = task.cancelling()
        answer: Any = None
        try:
            while True:
                step = call.send(answer)
                if task.cancelling() > cancelled:  # the client may have swallowed it, or made it another error
                    raise asyncio.CancelledError
                answer = await self._step(step, task, cancelled)
        except StopIteration as end:
            result: T = end.value
            return result  # at once: an interrupt in a further step would lose it
        except BaseException:
            call.close()
            raise

    async def _step(self, step: Step, task: asyncio.Task[Any], cancelled: int) -> Any:
        if self._pid != os.getpid():
            closed(self._place.shown)  # connections and loop are the parent's
        trouble: Trouble | None = None
        data = step.data() if isinstance(step, Ask) else b""
        while True:
            try:
                if not isinstance(step, Ask):
                    return await self._wait(step)
                return await self._asking.use(data, SILENCE)
            except exceptions.NoScriptError:
                assert isinstance(step, Ask)
                data = step.data_with_text()
            except (exceptions.RedisError, OSError) as error:
                if task.cancelling() > cancelled:
                    raise asyncio.CancelledError from error
                if not isinstance(step, Ask) and is_passing(error):
                    await asyncio.sleep(0.01)
                    return None  # the next request says whether the server is back
                until = step.until if isinstance(step, Ask) else clock.FOREVER
                trouble = trouble or Trouble(self._place, self._patience, until)
                await asyncio.sleep(trouble.pause(error))
                if self._is_closed:
                    closed(self._place.shown)

    async def _wait(self, wake: Wake) -> None:
        if wake.key is None:
            await asyncio.sleep(wake.seconds)
            return
        with suppress(BusyError):  # then it has waited
            await self._waiting.use(packed("BLPOP", wake.key, wake.seconds), wake.seconds)

    def close(self) -> None:
        """Close the connections, those in use when their requests are answered; let none wait."""
        self._is_closed = True
        self._asking.close()
        self._waiting.cut()
