"""Bells and event loops as a scheduler answers them: sockets and timers without a kernel, in steps.

A socket takes its name, hears, drains and ends in a step each, as in system calls. It ends with its process, so no ring
for a dead process is received. An actor that waits on descriptors sleeps under a negative number, so that the scheduler
tells it from one that sleeps on a word.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Final, cast

from shared_multiprocess_queue._platform import bells

from .scheduler import Scheduler

_SECOND: Final = 1_000_000_000  # ns
_REPLACED: Final = ("ring", "Bell", "TimedBell")


class Kernel:
    """The sockets that are bound to names.

    Args:
        scheduler: of the run.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.numbers = itertools.count(1)
        self.by_descriptor: dict[int, Bell] = {}
        self._bound: dict[tuple[int, int], Bell] = {}

    def clear(self) -> None:
        """Forget all sockets of the last run."""
        self.by_descriptor.clear()
        self._bound.clear()

    def bind(self, bell: Bell, nonce: int, name: int) -> None:
        self._bound[nonce, name] = bell
        self.by_descriptor[bell.descriptor] = bell

    def end(self, bell: Bell) -> None:
        self._bound = {name: other for name, other in self._bound.items() if other is not bell}
        self.by_descriptor.pop(bell.descriptor, None)

    def end_process(self, process: int) -> None:
        """Close the sockets of a process that dies."""
        for bell in list(self.by_descriptor.values()):
            if bell.process == process:
                self.end(bell)

    def ring(self, nonce: int, name: int) -> bool:
        """Ring a bell, in one step; return whether it exists.

        No ring fills a buffer: each comes from a socket of its own, and a receiver that is full has been rung.
        """
        self.scheduler.step()
        bell = self._bound.get((nonce, name))
        if bell is not None:
            bell.has_message = True
            self.scheduler.wake(bell.listener, 1)
        return bell is not None

    def ring_address(self, address: bytes) -> bool:
        """Ring the bell of an address, for the engine in C."""
        nonce, name = address.removeprefix(b"shmq-").split(b"-")
        return self.ring(int(nonce, 16), int(name, 16))

    @contextmanager
    def replaces_that_of_the_package(self) -> Iterator[None]:
        """Let the package make and ring the bells of this kernel."""
        saved = {name: getattr(bells, name) for name in _REPLACED}
        made = {"ring": self.ring, "Bell": lambda: Bell(self), "TimedBell": lambda period: TimedBell(self, period)}
        try:
            vars(bells).update(made)
            yield
        finally:
            vars(bells).update(saved)


class Bell:
    """In the place of ``_platform.bells.Bell``.

    Attributes:
        process: whose it is.
        descriptor: number that stands for it.
        listener: number under which the actor sleeps that waits for it.
        has_message: whether it was rung.
    """

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        current = kernel.scheduler.current
        self.process = None if current is None else current.process
        self.descriptor = next(kernel.numbers)
        self.listener = -self.descriptor
        self.has_message = False

    def open(self, nonce: int, name: int) -> None:
        self._kernel.scheduler.step()
        self._kernel.bind(self, nonce, name)

    def is_whole(self) -> bool:
        return self.descriptor in self._kernel.by_descriptor

    def fileno(self) -> int:
        return self.descriptor if self.is_whole() else -1

    def hear(self) -> bool:
        self._kernel.scheduler.step()
        heard, self.has_message = self.has_message, False
        return heard

    def close(self) -> None:
        if self.is_whole():
            self._kernel.scheduler.step()
            self._kernel.end(self)


class TimedBell(Bell):
    """In the place of ``_platform.bells.TimedBell``."""

    def __init__(self, kernel: Kernel, period: int) -> None:
        super().__init__(kernel)
        self._period = period
        self._until = 0

    def show(self, after: int) -> None:
        self._until = self._kernel.scheduler.now + (0 if after == bells.AT_ONCE else after)

    def drain(self) -> None:
        self.hear()
        self._until = self._kernel.scheduler.now + self._period

    def poll(self) -> None:
        """Wait until the descriptor is readable, as ``select`` does."""
        scheduler = self._kernel.scheduler
        if not self.is_whole():
            scheduler.nap()  # its process is dead
        while self.is_whole() and not self.has_message and scheduler.now < self._until:
            scheduler.sleep(self.listener, True, self._until - scheduler.now)


class _Timer:
    def __init__(self, at: int, call: Callable[[], object]) -> None:
        self.at = at
        self.call = call

    def cancel(self) -> None:
        self.call = lambda: None


class _Task:
    """A coroutine, driven by hand: a Task of asyncio would tell all threads of the process which one runs."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._coroutine = coroutine
        self._awaits: Any = None
        self.is_done = False
        self.result: Any = None
        self.error: BaseException | None = None

    def can_move(self) -> bool:
        return not self.is_done and (self._awaits is None or self._awaits.done())

    def move(self, is_cancelled: bool = False) -> None:
        """Run up to the next await that waits."""
        try:
            if is_cancelled:
                self._awaits = self._coroutine.throw(asyncio.CancelledError())
            else:
                self._awaits = self._coroutine.send(None)
        except StopIteration as end:
            self.is_done, self.result = True, end.value
        except (Exception, asyncio.CancelledError) as error:
            self.is_done, self.error = True, error


class Loop:
    """An event loop for the tasks of one call: what the package asks of one.

    Args:
        kernel: has the sockets.
    """

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._number = -next(kernel.numbers)
        self._readers: dict[int, Callable[[], object]] = {}
        self._timers: list[_Timer] = []
        self._is_closed = False

    def run(self, coroutines: list[Coroutine[Any, Any, Any]], leaves: bool) -> Any:
        """Run tasks until the last is done, and return its result.

        Args:
            coroutines: of one task, or of two.
            leaves: whether the first is cancelled when both wait and the scheduler has let others run; if it is done
                before, its result is returned, and the second is ended.

        Raises:
            asyncio.CancelledError: the last was cancelled.
        """
        tasks = [_Task(coroutine) for coroutine in coroutines]
        first, last = tasks[0], tasks[-1]
        asyncio._set_running_loop(cast(Any, self))
        try:
            while not last.is_done:
                if first.can_move():
                    first.move()
                if first is not last and first.is_done and not isinstance(first.error, asyncio.CancelledError):
                    return self._answer(first)
                if last.can_move():
                    last.move()
                if any(task.can_move() for task in tasks):
                    self._kernel.scheduler.nap()  # it has given the loop a turn
                elif not last.is_done:
                    if leaves and not first.is_done:
                        self._kernel.scheduler.nap()
                        self._serve()  # a ring that comes later is not heard
                        self._kernel.scheduler.nap()
                        first.move(is_cancelled=True)
                    else:
                        self._select()
            return self._answer(last)
        finally:
            for coroutine in coroutines:
                coroutine.close()  # of an actor that is dead
            asyncio._set_running_loop(None)
            self._is_closed = True

    def _answer(self, task: _Task) -> Any:
        if task.error is not None:
            raise task.error
        return task.result

    def _select(self) -> None:
        """Sleep until a descriptor is readable or a timer is due, and serve these."""
        scheduler = self._kernel.scheduler
        for descriptor in self._readers:
            self._bell(descriptor).listener = self._number
        is_ready = any(self._bell(descriptor).has_message for descriptor in self._readers)
        until = min((timer.at for timer in self._timers), default=scheduler.now)
        if not is_ready and until > scheduler.now:
            scheduler.sleep(self._number, True, until - scheduler.now)
        self._serve()

    def _serve(self) -> None:
        for descriptor, hear in list(self._readers.items()):
            if self._bell(descriptor).has_message:
                hear()
        due = [timer for timer in self._timers if timer.at <= self._kernel.scheduler.now]
        self._timers = [timer for timer in self._timers if timer not in due]
        for timer in due:
            timer.call()

    def _bell(self, descriptor: int) -> Bell:
        return self._kernel.by_descriptor[descriptor]

    # ---- what the package asks for ----------------------------------------------------------------------------------

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=cast(Any, self))

    def get_debug(self) -> bool:
        return False

    def is_closed(self) -> bool:
        return self._is_closed

    def is_running(self) -> bool:
        return not self._is_closed

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any, context: Any = None) -> Any:
        self._timers.append(_Timer(self._kernel.scheduler.now + int(delay * _SECOND), lambda: callback(*args)))
        return self._timers[-1]

    def add_reader(self, fd: Any, callback: Callable[..., object], *args: Any) -> None:
        self._readers[fd] = lambda: callback(*args)

    def remove_reader(self, fd: Any) -> bool:
        return self._readers.pop(fd, None) is not None
