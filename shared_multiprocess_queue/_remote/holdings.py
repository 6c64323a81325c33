"""What a handle has leased in this process, and the thread that renews it and runs the errands of calls that are over.

There is no process table to look at: a lease on a server ends by time. So its holder renews it, and knows before others
do that it is lost: ``valid_until`` counts from the sending of the last answered request, the server from later on.

The thread is there while there is a lease or an errand, and has a connection of its own, so that no number of calls
keeps it from renewing. It is told what to do through a ``SimpleQueue``, the one thing that may be used in ``__del__``,
which can come in the middle of any other lock. A forked child touches nothing of its parent's.
"""

from __future__ import annotations

import itertools
import os
import queue
import threading
import warnings
import weakref
from contextlib import suppress
from typing import Any, Final, NoReturn

from .._platform import clock
from ..errors import LeaseLostError, QueueUnavailableError, SharedMemoryQueueError
from .calls import Attempt, Calls, Taken, closed
from .link import Link
from .lua import MEMORY
from .requests import Ask, Call
from .where import Place

__all__ = ["CLOSING", "Held", "Holdings"]

CLOSING: Final = 2.0
"""Seconds that a handle takes at most to give back what it has, if its server does not answer."""

_OFTEN: Final = 3  # renewals in the time of one lease
_MOST: Final = 500  # tokens in one request
_PAUSE: Final = 0.5  # seconds between attempts if the server does not answer
_LAST: Final = 60.0  # seconds for which errands are tried after the end of a handle


class Held:
    """An item that is leased.

    Attributes:
        token: of the lease.
        entry: the item's bytes.
        position: of the item in the queue.
        deliveries: times that it was handed out.
        valid_until: monotonic time in ns up to which the lease is certainly this process's.
        thread: the one that got it by ``get``; None if a ``Lease`` has it.
        attempt: the request to end the lease that was not answered; None if there is none.
        is_ended: whether this process has ended it.
    """

    __slots__ = ("attempt", "deliveries", "entry", "is_ended", "position", "thread", "token", "valid_until")

    def __init__(self, taken: Taken, seconds: float, thread: threading.Thread | None) -> None:
        self.token = taken.token
        self.entry = taken.entry
        position, deliveries, _ = taken.token.split(":", 2)
        self.position = int(position)
        self.deliveries = int(deliveries)
        self.valid_until = taken.asked + seconds * 1e9
        self.thread = thread
        self.attempt: Attempt | None = None
        self.is_ended = False


class Holdings:
    """The leases of one handle in one process.

    Args:
        calls: of the handle.
        place: of the queue.
        seconds: for which a lease lasts unless it is renewed.

    Attributes:
        uuid: of the queue.
    """

    def __init__(self, calls: Calls, place: Place, seconds: float) -> None:
        self.uuid = calls.uuid
        self._pid = os.getpid()
        self._calls = calls
        self._place = place
        self._seconds = seconds
        self._held: dict[str, Held] = {}
        self._thread_has = threading.local()  # ``got``: what ``get`` gave the thread, also what it has lost
        self._post: queue.SimpleQueue[Ask | str | None] = queue.SimpleQueue()  # errands; dropped tokens; None: the end
        self._lock = threading.Lock()  # of the thread's begin and end; never taken in __del__
        self._thread: threading.Thread | None = None
        self._is_closed = False
        calls.errand = self._post.put
        me = id(self)
        _of_process[me] = weakref.ref(self, lambda _: _of_process.pop(me, None))

    def of_this_process(self) -> int:
        """Return how many leases of this queue all handles of this process have."""
        others = [ref() for ref in _of_process.copy().values()]
        return sum(len(other) for other in others if other is not None and other.uuid == self.uuid)

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, held: Held) -> bool:
        return held.token in self._held

    def of_this_thread(self) -> int:
        """Return how many leases ``get`` gave the calling thread."""
        me = threading.current_thread()
        return sum(held.thread is me for held in list(self._held.values()))

    def of(self, taken: list[Taken], for_thread: bool) -> list[Held]:
        """Return what was taken as it is held; ``add`` makes it so.

        Args:
            taken: the items.
            for_thread: whether it is the calling thread that has them.
        """
        thread = threading.current_thread() if for_thread else None
        return [Held(one, self._seconds, thread) for one in taken]

    def add(self, new: list[Held]) -> None:
        """Renew leases from now on, unless an exception comes.

        Raises:
            QueueClosedError: another thread has closed the handle.
        """
        try:
            got = [held for held in self._got() or () if not held.is_ended] + new
            with self._lock:
                if self._is_closed:
                    closed(self._place.shown)
                self._held.update({held.token: held for held in new})
                self._start()
            if new[0].thread is not None:
                self._thread_has.got = got
        except BaseException:
            for held in new:
                self._held.pop(held.token, None)
            raise

    def _got(self) -> list[Held] | None:
        got: list[Held] | None = getattr(self._thread_has, "got", None)
        return got

    def oldest(self) -> Held | None:
        """Return the lease that the calling thread has had longest by ``get``, also a lost one.

        For a thread that has never got an item, return the oldest lease of other threads.
        """
        got = self._got()
        if got is None:
            by_get = [held for held in list(self._held.values()) if held.thread is not None]
            return min(by_get, key=lambda held: held.position, default=None)
        while got and got[0].is_ended:
            del got[0]
        return got[0] if got else None

    def remove(self, held: Held) -> None:
        """Note that a lease is about to be ended.

        Raises:
            LeaseLostError: it is not held.
        """
        if self._held.pop(held.token, None) is None:
            self.lost(held)

    def forget(self, token: str) -> None:
        """Note that a lease is about to be ended, if it is held."""
        self._held.pop(token, None)

    def keep(self, held: Held) -> None:
        """Note that a lease was not ended after all."""
        with self._lock:
            if not self._is_closed:
                self._held[held.token] = held
                self._start()

    def lost(self, held: Held) -> NoReturn:
        """Raise the error of a lease that is over.

        Raises:
            LeaseLostError
        """
        raise LeaseLostError(
            f"the lease of position {held.position} is over: it was ended, or its handle was closed, or the server did "
            f"not hear of it for {self._seconds:g} seconds, and the item may be delivered again"
        )

    def drop(self, held: Held) -> None:
        """Give back what nothing refers to any more. This may come at any moment, so the thread does it."""
        if held.token in self._held:
            self._post.put(held.token)
            warnings.warn(
                f"a Lease was dropped without done() or release(); position {held.position} of {self._place.shown} "
                f"comes back",
                ResourceWarning,
                stacklevel=3,
            )

    # ---- the thread -------------------------------------------------------------------------------------------------

    def run_errands(self) -> None:
        """Let the thread do what calls have left to it. In a forked child that is the parent's."""
        if self._pid == os.getpid() and not self._post.empty():
            with self._lock:
                self._start()

    def close(self) -> None:
        """Give all leases back and end the thread, for which it waits a while."""
        with self._lock:
            self._is_closed = True
            if self._thread is None and not self._held and self._post.empty():
                return
            self._start()
            thread = self._thread
            self._post.put(None)
        if thread is not None and thread is not threading.current_thread():
            thread.join(CLOSING)

    def retire(self) -> None:
        """As ``close``, from ``__del__``: if the thread is there, it does so when it can."""
        if self._pid == os.getpid():
            self._post.put(None)

    def _start(self) -> None:
        if self._thread is None:
            worker = _Worker(self._calls, self._place, self._seconds, self._held, self._post)
            name = f"leases of {self._place.shown}"
            thread = threading.Thread(target=self._run, args=(worker,), name=name, daemon=True)
            thread.start()
            self._thread = thread

    def _run(self, worker: _Worker) -> None:
        with self._lock:
            if self._thread is not threading.current_thread():  # an interrupt came at its start: there will be another
                return
        try:
            while True:
                worker.turn()
                with self._lock:
                    if worker.is_done():
                        self._thread = None
                        return
        finally:
            with self._lock:
                if self._thread is threading.current_thread():
                    self._thread = None  # after an error
            worker.close()


class _Worker:
    """What the thread does; see ``Holdings``."""

    def __init__(
        self,
        calls: Calls,
        place: Place,
        seconds: float,
        held: dict[str, Held],
        post: queue.SimpleQueue[Ask | str | None],
    ) -> None:
        self._calls = calls
        self._link = Link(place, 0, 1, min(max(seconds / _OFTEN, 1.0), 5.0))
        self._period = seconds / _OFTEN * 1e9
        self._seconds = seconds
        self._held = held
        self._post = post
        self._errands: list[tuple[Ask, int]] = []  # with the time after which the server has forgotten what they are of
        self._due = clock.now() + self._period
        self._ends = False
        self._last = 0

    def is_done(self) -> bool:
        """Whether there is nothing to do."""
        return self._post.empty() and not self._errands and (self._ends or not self._held)

    def close(self) -> None:
        """Close the connection."""
        self._link.close()

    def turn(self) -> None:
        """Wait until there is something to do, and do it."""
        left = max((self._due - clock.now()) / 1e9, 0)
        dropped: list[str] = []
        with suppress(queue.Empty):
            self._note(self._post.get(timeout=min(left, _PAUSE) if self._errands else left), dropped)
            while True:
                self._note(self._post.get_nowait(), dropped)
        if self._ends:
            dropped = list(self._held)
        else:
            dropped += [
                one.token for one in list(self._held.values()) if one.thread is not None and not one.thread.is_alive()
            ]
        self._release([token for token in dropped if self._held.pop(token, None) is not None])
        self._run_errands()
        if not self._ends and clock.now() >= self._due:
            self._renew()

    def _note(self, what: Ask | str | None, dropped: list[str]) -> None:
        if what is None:
            self._ends = True
            self._last = clock.now() + int(_LAST * 1e9)
        elif isinstance(what, str):
            dropped.append(what)
        else:
            self._errands.append((what, clock.now() + int(MEMORY / 2 * 1e9)))

    def _release(self, tokens: list[str]) -> None:
        if tokens:
            self._note(self._calls.attempt("release", 0, 0, 1, *tokens).ask, [])

    def _run_errands(self) -> None:
        left, self._errands = self._errands, []
        for errand, until in left:
            try:
                self._link.run(_sending(errand))
            except QueueUnavailableError:
                if clock.now() < (min(until, self._last) if self._ends else until):
                    self._errands.append((errand, until))
            except SharedMemoryQueueError:  # it is refused; what was leased comes back by time
                pass

    def _renew(self) -> None:
        self._due = clock.now() + self._period
        everything = iter(list(self._held.values()))
        try:
            while some := list(itertools.islice(everything, _MOST)):
                asked = clock.now()
                answer = self._link.run(self._calls.simple("keep", *(held.token for held in some)))
                for held, bit in zip(some, answer[1], strict=True):
                    if bit == ord("1"):
                        held.valid_until = asked + self._seconds * 1e9
                    else:
                        self._held.pop(held.token, None)
        except QueueUnavailableError:  # what was left of the leases may be left when it is back
            self._due = clock.now() + min(self._period, _PAUSE * 1e9)
        except SharedMemoryQueueError:  # the queue is gone
            for held in list(self._held.values()):
                if held.valid_until < clock.now():
                    self._held.pop(held.token, None)


def _sending(ask: Ask) -> Call[Any]:
    return (yield ask)


_of_process: Final[dict[int, weakref.ref[Holdings]]] = {}
"""By id. Each change and each copy is one step of the interpreter, so that threads and finalizers need no lock."""

os.register_at_fork(after_in_child=_of_process.clear)
