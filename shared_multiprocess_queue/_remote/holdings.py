"""What a handle has leased in this process, and the thread that renews it.

There is no process table to look at: a lease on a server ends by time. So its holder renews it, and knows before others
do that it is lost: ``valid_until`` counts from the sending of the last answered request, the server from later on.
"""

from __future__ import annotations

import itertools
import threading
import warnings
import weakref
from typing import Final, NoReturn

from .._platform import clock
from ..errors import LeaseLostError, QueueClosedError, SharedMemoryQueueError
from .calls import Calls, Taken
from .link import Link

__all__ = ["Held", "Holdings"]

_OFTEN: Final = 3  # renewals in the time of one lease
_MOST: Final = 500  # tokens in one request


class Held:
    """An item that is leased.

    Attributes:
        token: of the lease.
        entry: the item's bytes.
        position: of the item in the queue.
        deliveries: times that it was handed out.
        valid_until: monotonic time in ns up to which the lease is certainly this process's.
        thread: the one that got it by ``get``; None if a ``Lease`` has it.
    """

    __slots__ = ("deliveries", "entry", "position", "thread", "token", "valid_until")

    def __init__(self, taken: Taken, seconds: float, thread: threading.Thread | None) -> None:
        self.token = taken.token
        self.entry = taken.entry
        position, deliveries, _ = taken.token.split(":", 2)
        self.position = int(position)
        self.deliveries = int(deliveries)
        self.valid_until = taken.asked + seconds * 1e9
        self.thread = thread


class Holdings:
    """The leases of one handle in one process.

    Args:
        calls: of the handle.
        link: likewise.
        seconds: for which a lease lasts unless it is renewed.
        name: of the queue, for messages.

    Attributes:
        uuid: of the queue.
    """

    def __init__(self, calls: Calls, link: Link, seconds: float, name: str) -> None:
        self.uuid = calls.uuid
        self._calls = calls
        self._link = link
        self._seconds = seconds
        self._name = name
        self._held: dict[str, Held] = {}  # in the order in which they were taken
        self._dropped: list[str] = []  # tokens of Lease objects that nothing refers to any more
        self._lock = threading.Lock()  # of the renewing thread's begin and end
        self._renewer: threading.Thread | None = None
        self._stop = threading.Event()
        _of_process.add(self)

    def of_this_process(self) -> int:
        """Return how many leases of this queue all handles of this process have."""
        return sum(len(other) for other in list(_of_process) if other.uuid == self.uuid)

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, held: Held) -> bool:
        return held.token in self._held

    def of_this_thread(self) -> int:
        """Return how many leases ``get`` gave the calling thread."""
        me = threading.current_thread()
        return sum(held.thread is me for held in list(self._held.values()))

    def add(self, taken: list[Taken], for_thread: bool) -> list[Held]:
        """Note what was taken, and renew it from now on."""
        thread = threading.current_thread() if for_thread else None
        new = [Held(one, self._seconds, thread) for one in taken]
        with self._lock:
            self._held.update((held.token, held) for held in new)
            if self._renewer is None:
                self._renewer = threading.Thread(target=self._renew, name=f"leases of {self._name}", daemon=True)
                self._renewer.start()
        return new

    def oldest(self) -> Held | None:
        """Return the lease that the calling thread has had longest by ``get``, or else the oldest of other threads."""
        me = threading.current_thread()
        by_get = [held for held in list(self._held.values()) if held.thread is not None]
        return next((held for held in by_get if held.thread is me), None) or min(
            by_get, key=lambda held: held.position, default=None
        )

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
        self._held[held.token] = held

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
        """Give back what nothing refers to any more. This may come at any moment, so the renewing thread does it."""
        if held.token in self._held:
            self._dropped.append(held.token)
            self._stop.set()
            warnings.warn(
                f"a Lease was dropped without done() or release(); position {held.position} of {self._name} comes back",
                ResourceWarning,
                stacklevel=3,
            )

    def give_all_back(self) -> list[str]:
        """End all leases; return their tokens, which are to be released."""
        tokens = list(self._held)
        self._held.clear()
        self._stop.set()
        return tokens

    def _renew(self) -> None:
        while True:
            self._stop.wait(self._seconds / _OFTEN)
            self._stop.clear()
            try:
                self._release_ownerless()
                self._renew_all()
            except QueueClosedError:
                pass
            except SharedMemoryQueueError:  # the server is away, or the queue: the leases end by themselves
                self._forget_what_is_over()
            with self._lock:
                if not self._held:
                    self._renewer = None
                    return

    def _release_ownerless(self) -> None:
        """Give back what dropped Lease objects and threads that have ended had."""
        tokens = []
        while self._dropped:
            tokens.append(self._dropped.pop())
        tokens += [
            held.token for held in list(self._held.values()) if held.thread is not None and not held.thread.is_alive()
        ]
        tokens = [token for token in tokens if self._held.pop(token, None) is not None]
        if tokens:
            self._link.run(self._calls.once("release", 0, 0, *tokens))

    def _renew_all(self) -> None:
        everything = iter(list(self._held.values()))
        while some := list(itertools.islice(everything, _MOST)):
            asked = clock.now()
            answer = self._link.run(self._calls.simple("keep", *(held.token for held in some)))
            for held, bit in zip(some, answer[1], strict=True):
                if bit == ord("1"):
                    held.valid_until = asked + self._seconds * 1e9
                else:
                    self._held.pop(held.token, None)

    def _forget_what_is_over(self) -> None:
        for held in list(self._held.values()):
            if held.valid_until < clock.now():
                self._held.pop(held.token, None)


_of_process: weakref.WeakSet[Holdings] = weakref.WeakSet()
