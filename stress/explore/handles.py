"""Handles of both engines in one process, on memory that asks the scheduler before each access.

Engines and words are those of the package, with a step before each operation on a word. The scheduler answers what they
ask from outside: their identity, which processes live, the time, and how to sleep.
"""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Empty, Full
from types import SimpleNamespace
from typing import Any, Final, cast

from greenlet import getcurrent

from shared_multiprocess_queue._codec.codec import Codec
from shared_multiprocess_queue._engine import in_place
from shared_multiprocess_queue._engine.arguments import NOT_GIVEN
from shared_multiprocess_queue._engine.atomics import AtomicsEngine
from shared_multiprocess_queue._engine.calls import InPython
from shared_multiprocess_queue._engine.membership import Membership
from shared_multiprocess_queue._engine.tasks import Tasks
from shared_multiprocess_queue._platform import atomic_words, processes
from shared_multiprocess_queue._platform.system import System
from shared_multiprocess_queue._ring import layout
from shared_multiprocess_queue._ring.layout import ITEMS, SPACE
from shared_multiprocess_queue.errors import NotABufferError, RoleTakenError

from .bells import Kernel, Loop, TimedBell
from .memory import Memory
from .program import BELLS, ENDS, ITEM_SIZE, PUTS, TAKES
from .scheduler import Scheduler, Violation

BYTES: Final = 1  # codec tag
PATIENCE: Final = 350_000_000  # ns that a waiting call waits
_NAMESPACE: Final = 4711


class _Flag:
    """The int32 of the lock, in steps."""

    def __init__(self, buffer: memoryview, step: Callable[[], bool]) -> None:
        self.buffer = buffer
        self._step = step
        self._value = buffer.cast("i")

    def try_acquire(self) -> bool:
        self._step()
        won = self._value[0] == 0
        self._value[0] = 1
        return won

    def is_held(self) -> bool:
        self._step()
        return self._value[0] != 0

    def release(self) -> None:
        self._step()
        self._value[0] = 0

    def close(self) -> None:
        pass


class _Words:
    """The words of a segment, with a step in front of each access."""

    def __init__(self, memory: Memory, step: Callable[[], bool]) -> None:
        self._inner = atomic_words.open_words(memory.buffer)
        self._step = step

    def words(self) -> Any:
        inner, step = self._inner.words(), self._step
        access = type(inner)()
        load, load_after_rmw, peek = inner.load, inner.load_after_rmw, inner.peek
        store, announce, add = inner.store, inner.announce, inner.add
        cas, cas_noted = inner.cas, inner.cas_noted

        def stepped_load(offset: int) -> int:
            step()
            return load(offset)

        def stepped_load_after_rmw(offset: int) -> int:
            step()
            return load_after_rmw(offset)

        def stepped_peek(offset: int) -> int:
            step()
            return peek(offset)

        def stepped_store(offset: int, value: int) -> None:
            step()
            store(offset, value)

        def stepped_announce(offset: int, value: int) -> None:
            step()
            announce(offset, value)

        def stepped_announce_range(offset: int, begin: int, end: int) -> None:
            step()
            announce(offset, begin)
            step()
            announce(offset + layout.WORD, end)

        def stepped_add(offset: int, amount: int) -> int:
            step()
            return add(offset, amount)

        def stepped_cas(offset: int, expected: int, desired: int) -> bool:
            step()
            return cas(offset, expected, desired)

        def stepped_cas_noted(offset: int, expected: int, desired: int, note: list[int]) -> None:
            step()
            cas_noted(offset, expected, desired, note)

        access.load, access.load_after_rmw, access.peek = stepped_load, stepped_load_after_rmw, stepped_peek
        access.store, access.announce, access.announce_range = stepped_store, stepped_announce, stepped_announce_range
        access.add, access.cas, access.cas_noted = stepped_add, stepped_cas, stepped_cas_noted
        return access

    def reader(self) -> Any:
        inner, step = self._inner.reader(), self._step

        def stepped_load(offset: int) -> int:
            step()
            return int(inner.load(offset))

        return SimpleNamespace(load=stepped_load)

    def release(self) -> None:
        self._inner.release()


class _Halves:
    """Lengths and metas of slots; a step in front of the length stands for reading the whole payload."""

    def __init__(self, inner: memoryview, step: Callable[[], bool]) -> None:
        self._inner = inner
        self._step = step

    def __getitem__(self, index: int) -> int:
        self._step()
        return self._inner[index]

    def release(self) -> None:
        self._inner.release()


class _Bytes:
    """The segment; a step in front of each write into a slot [P7]."""

    def __init__(self, inner: memoryview, step: Callable[[], bool]) -> None:
        self._inner = inner
        self._step = step

    def __getitem__(self, place: slice) -> memoryview:
        return self._inner[place]

    def __setitem__(self, place: slice, data: bytes) -> None:
        self._step()
        self._inner[place] = data

    def release(self) -> None:
        self._inner.release()


class _ThreadLock:
    """The lock between threads of a handle; an RLock would let all greenlets in, because they are one thread."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._holder: object = None
        self._depth = 0

    def __enter__(self) -> None:
        me = getcurrent()
        while self._holder not in (None, me):
            self._scheduler.nap()
        self._holder = me
        self._depth += 1

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if self._depth == 0:
            self._holder = None


class ScheduledSystem(System):
    """What a scheduler answers a handle.

    Args:
        scheduler: answers.
        pid: of the process that the handle stands for.
        dead: process ids.
    """

    looks = 1  # a second look is the same as a first one that comes later

    def __init__(self, scheduler: Scheduler, pid: int, dead: set[int]) -> None:
        self._scheduler = scheduler
        self._identity = processes.Identity(pid, 1, _NAMESPACE)
        self._dead = dead

    def now(self) -> int:
        return self._scheduler.clock()

    def sleep(self, seconds: float) -> None:
        self._scheduler.nap(seconds)

    def wait(self, address: int, expected: int, timeout: int) -> None:
        is_as_expected = ctypes.c_uint32.from_address(address).value == expected & 0xFFFFFFFF
        self._scheduler.sleep(address, is_as_expected, timeout)

    def wake(self, address: int, count: int) -> int:
        return self._scheduler.wake(address, count)

    def identity(self) -> processes.Identity:
        return self._identity

    def is_alive(self, pid: int, start: int) -> bool:
        self._scheduler.on_wait()
        return pid not in self._dead

    def cores(self) -> int:
        return 1  # spinning would only look at what no step can have changed


class Handle:
    """One handle of one engine, whose process lives until it is declared dead.

    Args:
        engine: "atomics" or "native".
        memory: where.
        scheduler: decides about each step.
        pid: of the process that this stands for.
        dead: process ids.
        kernel: has the sockets.

    Attributes:
        shown: what the last call has shown its block, if it is interrupted after that; None: nothing.
    """

    shown: list[str] | None

    def __init__(
        self,
        engine: str,
        memory: Memory,
        scheduler: Scheduler,
        pid: int,
        dead: set[int],
        kernel: Kernel,
    ) -> None:
        self._scheduler = scheduler
        self._kernel = kernel
        step, system = scheduler.step, ScheduledSystem(scheduler, pid, dead)
        arguments: Any = (memory, memory.geometry, _Flag(memory.lock, step), _Words(memory, step), lambda: None, system)
        if engine == "native":
            from shared_multiprocess_queue._engine import native  # noqa: PLC0415 (there may be none)

            if explored_library() is None:
                raise RuntimeError("this extension takes no step that is scheduled; explore a copy, see run.py")
            self.engine: AtomicsEngine | native.NativeEngine = native.NativeEngine(Membership(*arguments))
        else:
            self.engine = AtomicsEngine(Membership(*arguments))
        self.engine.membership.growth.step = self.engine.membership.growth.lease_step = 1
        self.engine.membership.records.lock = cast(Any, _ThreadLock(scheduler))
        self.engine.membership.ring._bytes = _Bytes(self.engine.membership.ring._bytes, step)  # type: ignore[assignment]
        self.engine.membership.ring._halves = _Halves(self.engine.membership.ring._halves, step)  # type: ignore[assignment]
        leases = self.engine.membership.ring.leases
        if leases is not None:
            leases._bytes = _Bytes(leases._bytes, step)  # type: ignore[assignment]
            if (letters := leases.dead_letters) is not None:
                letters._bytes = _Bytes(letters._bytes, step)  # type: ignore[assignment]
        self._codec = codec = Codec(cast(Any, None))  # bytes need no definitions
        calls = self.engine.open(codec)
        self._direct: Any = calls if engine == "native" else None  # the engine in Python is called itself
        self.engine.membership.tasks = Tasks(self.engine.membership, calls, codec)

    def call(self, name: str, items: list[str]) -> list[str] | bool | None:
        """Make a call.

        Returns:
            Of a put, its items; of a get, the items that it took; of a look, the answer. None: Full or Empty. False:
            another handle has the role, or the call has left, also a block, or a view could not be had.

        Raises:
            ShutDown: the queue was shut down.
        """
        waits = name.endswith("_wait")
        self.shown = None
        try:
            if name in BELLS:
                return self._by_bell(name, items)
            if name in ("reserve", "fail"):
                self._reserve(items[0].encode(), name == "fail")
                return items
            if name == "leak":
                self._leak(items[0].encode())
                return items
            if name == "view":
                return [self._view().decode()]
            if name == "into":
                return [self._into().decode()]
            if name in PUTS:
                self._put([item.encode() for item in items], waits)
                return items
            if name in TAKES:
                return [data.decode() for data in self._take(TAKES[name], waits)]
        except (Full, Empty):
            return None
        except (RoleTakenError, asyncio.CancelledError, NotABufferError, BufferError, _BlockError):
            return False
        if name in ENDS:
            return self.engine.shutdown(name == "stop")
        return bool(getattr(self.engine, name)())

    def _reserve(self, item: bytes, fails: bool) -> None:
        with in_place.Reservation(None, self.engine, self._codec, len(item), False, None) as memory:
            self._scheduler.step()
            memory[:] = b"torn".ljust(len(item))[: len(item)]
            self._scheduler.step()
            if fails:
                raise _BlockError
            memory[:] = item
            self._scheduler.step()

    def _leak(self, item: bytes) -> None:
        """Keep the memory of a reservation, and write there when its end has not refused that."""
        with in_place.Reservation(None, self.engine, self._codec, len(item), False, None) as memory:
            memory[:] = item
            kept = memory[:]
        self._scheduler.step()
        kept[:] = b"late".ljust(len(item))[: len(item)]

    def _view(self) -> bytes:
        with in_place.View(None, self.engine, self._codec, False, None) as memory:
            seen = bytes(memory)
            self.shown = [seen.decode()]
            for _ in range(2):
                self._scheduler.step()
                if memory != seen:
                    raise Violation("the memory of a view changed")
        return seen

    def _into(self) -> bytes:
        buffer = memoryview(bytearray(2 * ITEM_SIZE))
        calls = self._direct if self._direct is not None else InPython(cast(AtomicsEngine, self.engine), self._codec)
        size = calls[buffer, False, None]
        return bytes(buffer[:size])

    def _by_bell(self, name: str, items: list[str]) -> list[str] | bool:
        if name.endswith("_await"):
            return self._await(name, [item.encode() for item in items])
        until = self._scheduler.now + PATIENCE
        doorbell = self.engine.doorbell(SPACE if items else ITEMS)
        try:
            while True:
                try:
                    if items:
                        self._put([item.encode() for item in items], False)
                        return items
                    return [data.decode() for data in self._take(1, False)]
                except (Full, Empty):
                    if self._scheduler.now >= until:
                        raise
                if name.startswith("leave"):
                    self._scheduler.nap()
                    return False
                cast(TimedBell, doorbell._bell).poll()
        finally:
            self.engine.membership.doorbells.close()

    def _await(self, name: str, items: list[bytes]) -> list[str]:
        tasks = cast(Tasks, self.engine.membership.tasks)
        seconds = PATIENCE / 1e9
        loop = Loop(self._kernel)
        if len(items) > 1:
            coroutines = [tasks.put_batch(items, seconds)]
        elif items:
            coroutines = [tasks.put(items[0], seconds)]
        else:
            coroutines = [tasks.get(seconds) for _ in range(2 if name.startswith("heir") else 1)]
        answer = loop.run(coroutines, leaves=name.startswith(("leave", "heir")))
        return [item.decode() for item in items or [answer]]

    def _put(self, items: list[bytes], waits: bool) -> None:
        direct = self._direct
        if direct is not None:
            if len(items) > 1:
                direct.put_batch(items, waits, PATIENCE / 1e9)
            else:
                direct.put(items[0], waits, PATIENCE / 1e9, NOT_GIVEN)
            return
        until = self._scheduler.now + PATIENCE if waits else 0
        if len(items) > 1:
            cast(AtomicsEngine, self.engine).put_batch([(item, BYTES) for item in items], until)
        else:
            cast(AtomicsEngine, self.engine).put((items[0], BYTES), until)

    def _take(self, limit: int, waits: bool) -> list[bytes]:
        direct = self._direct
        if direct is not None:
            timeout = PATIENCE / 1e9
            taken: list[bytes] = direct[limit, waits, timeout] if limit > 1 else [direct[waits, timeout]]
            return taken
        until = self._scheduler.now + PATIENCE if waits else 0
        return cast(AtomicsEngine, self.engine).get(limit, until, _deliver)


class _BlockError(Exception):
    """Leaves a block."""


def _deliver(taken: list[tuple[bytes, int]]) -> list[bytes]:
    return [data for data, _ in taken]


_CALLS: Final = 7  # EXPLORED_CALLS


@contextmanager
def taken_over(scheduler: Scheduler, dead: set[int], kernel: Kernel) -> Iterator[None]:
    """Answer the engine in C, instead of the system, which processes live, what time it is, and how to sleep and ring.

    Args:
        scheduler: answers.
        dead: process ids.
        kernel: has the sockets.
    """
    library = explored_library()
    if library is None:
        yield
        return
    system = ScheduledSystem(scheduler, 0, dead)
    try:
        library.explored_take_over(
            scheduler.step, system.now, scheduler.nap, system.wait, system.wake, system.is_alive, kernel.ring_address
        )
        yield
    finally:
        library.explored_take_over(*[None] * _CALLS)


def explored_library() -> Any:
    """Return what the test build of the extension has beside its module; None: there is none."""
    try:
        from shared_multiprocess_queue._native import extension  # noqa: PLC0415 (as above)
    except ImportError:
        return None
    library = ctypes.PyDLL(extension.__file__)
    if not hasattr(library, "explored_take_over"):
        return None
    library.explored_take_over.argtypes = [ctypes.py_object] * _CALLS
    library.explored_take_over.restype = None
    return library
