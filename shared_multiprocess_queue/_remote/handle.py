"""One handle of a remote queue in one process: what the public class does, without signatures."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, Final

from .._engine import arguments
from ..errors import (
    ArgumentError,
    DeadLetterGoneError,
    DeserializationError,
    LeaseLostError,
    LeasesHeldError,
    QueueNotFoundError,
    SharedMemoryQueueError,
    ShutDown,
)
from . import opening
from .calls import Attempt, Calls, Claim, Taken, closed
from .forms import Forms, identity
from .holdings import Held, Holdings
from .lease import RemoteDeadLetter, RemoteLease
from .link import Link
from .looked import Look
from .opening import Fixed
from .requests import Call, T
from .task_link import TaskLink
from .where import Place

__all__ = ["MOST_BYTES", "Handle"]

_MOST_ITEMS: Final = 10_000  # of a batch: a script occupies the server as long as it runs
MOST_BYTES: Final = 16 << 20


class Handle:
    """Everything that one process has of a queue on a server.

    A forked child gets another one by ``here``: connections, sessions and leases are its parent's.

    Args:
        link: to the server.
        calls: of the queue.
        fixed: what was fixed when the queue was created.
        forms: in which items are written and read.
        place: of the queue.
        patience: seconds without an answer after which the server is given up.

    Attributes:
        pid: of the process.
        is_closed: whether the handle is.
    """

    def __init__(self, link: Link, calls: Calls, fixed: Fixed, forms: Forms, place: Place, patience: float) -> None:
        self.pid = os.getpid()
        self.is_closed = False
        self.fixed = fixed
        self.uuid = calls.uuid
        self.calls = calls
        calls.lease = fixed.lease * 1e6
        self._identity = identity(calls.prefix, calls.uuid)
        self._link = link
        self._forms = forms
        self._place = place
        self._patience = patience
        self._holdings = Holdings(calls, place, fixed.lease / 1000)
        self._task_links: dict[asyncio.AbstractEventLoop, TaskLink] = {}
        self._child: Handle | None = None

    def to_pickle(self) -> tuple[str, Forms, float]:
        """Return what another process needs to open the same queue, besides its place."""
        return self.uuid, self._forms, self._patience

    def _again(self) -> Handle:
        """Return a handle of the same queue for this process, which was forked from that of this handle.

        A thread of the parent may have held any lock when it forked: the child has everything anew.
        """
        link = Link(self._place, self._patience)
        calls = self.calls.of_holder(opening.holder())
        _of_parents.append(self)
        child = Handle(link, calls, self.fixed, self._forms, self._place, self._patience)
        child.is_closed = calls.is_closed = self.is_closed
        return child

    def here(self) -> Handle:
        """Return this handle; in a forked child the one that it has of the same queue."""
        if self.pid == os.getpid():
            return self
        with forks.lock:
            if self._child is None or self._child.pid != os.getpid():
                self._child = self._again()
            return self._child

    def run(self, call: Call[T]) -> T:
        """Run a call in this thread."""
        self.check_open()
        try:
            return self._link.run(call)
        except BaseException:
            self._holdings.run_errands()
            raise

    async def run_in_task(self, call: Call[T]) -> T:
        """Run a call in this task."""
        self.check_open()
        loop = asyncio.get_running_loop()
        link = self._task_links.get(loop)
        if link is None:
            self._sweep()
            link = self._task_links[loop] = TaskLink(self._place, self._patience, self.pid)
        try:
            return await link.run(call)
        except BaseException:
            self._holdings.run_errands()
            raise

    def _sweep(self) -> None:
        """Close the connections of loops that are closed."""
        for loop in list(self._task_links):
            link = self._task_links.pop(loop, None) if loop.is_closed() else None  # another thread may be faster
            if link is not None:
                link.close()

    def check_open(self) -> None:
        """Check that the handle is open.

        Raises:
            QueueClosedError: it is not.
        """
        if self.is_closed:
            closed(self._place.shown)

    # ---- put and get ------------------------------------------------------------------------------------------------

    def putting(self, item: object, until: float) -> Call[None]:
        """Return the call that puts one item."""
        self.check_open()
        return self.calls.put([self._forms.encode(item, self.fixed.item_size, self._identity)], until)

    def putting_batch(self, items: Iterable[object], until: float) -> Call[None]:
        """Return the call that puts several items.

        Raises:
            ArgumentError: there are too many, or too many bytes.
        """
        self.check_open()
        batch = arguments.countable(items, self.fixed.capacity)
        size = self.fixed.item_size
        entries = [self._forms.encode(item, size, self._identity, index) for index, item in enumerate(batch)]
        total = sum(map(len, entries))
        if len(entries) > _MOST_ITEMS or total > MOST_BYTES:
            raise ArgumentError(
                f"a batch of {len(entries):,} items and {total:,} bytes would occupy the server for too long; a batch "
                f"may have {_MOST_ITEMS:,} items and {MOST_BYTES:,} bytes: split it"
            )
        return self.calls.put(entries, until) if entries else _nothing()

    def entry_of(self, item: object) -> bytes:
        """Return what is put for an item."""
        return self._forms.encode(item, self.fixed.item_size, self._identity)

    def getting(self, most: int, until: float) -> Call[list[Any]]:
        """Take up to ``most`` items. One that cannot be read ends the list, or, as the first one, is the error."""
        while True:
            self._check_that_some_are_left()
            claim = yield from self.calls.take(most, until, self._holdings.of_this_process())
            is_over = False
            try:
                items, error = self._read(claim.taken)
                if error is not None:
                    yield from self._give_back_rest(claim, len(items) or 1)
                    error = None if items else error
                if self.fixed.leases and items:
                    self._holdings.add(self._holdings.of(claim.taken, for_thread=True))
                else:
                    are_mine = yield from self.calls.confirm(claim, until)
                    if error is None:
                        items = [item for item, is_mine in zip(items, are_mine, strict=True) if is_mine]
                is_over = True
                self.calls.free += (claim.session,)  # no call: Python serves no signal from here to the end
            finally:
                if not is_over:
                    self.calls.abandon(claim)
            if items:
                return items
            if error is not None:
                raise error

    def _read(self, taken: Sequence[Taken]) -> tuple[list[Any], DeserializationError | None]:
        items: list[Any] = []
        for one in taken:
            try:
                items.append(self.decode(one.entry))
            except DeserializationError as error:
                return items, error
        return items, None

    def _give_back_rest(self, claim: Claim, count: int) -> Call[None]:
        """Give back all that was taken but the first items, as if it had not been delivered."""
        rest, claim.taken = claim.taken[count:], claim.taken[:count]
        if rest:
            yield from self.calls.once("release", 0, 0, 0, *(one.token for one in rest))

    def _check_that_some_are_left(self) -> None:
        leases = self.fixed.leases
        if leases and self._holdings.of_this_thread() >= leases:
            raise LeasesHeldError(leases)

    # ---- leases -----------------------------------------------------------------------------------------------------

    def leasing(self, most: int, until: float) -> Call[list[RemoteLease[Any]]]:
        """Take up to ``most`` items for leases."""
        self._check_that_some_are_left()
        claim = yield from self.calls.take(most, until, self._holdings.of_this_process())
        is_over = False
        try:
            new = self._holdings.of(claim.taken, for_thread=False)
            leases = [RemoteLease(self, held) for held in new]
            self._holdings.add(new)
            is_over = True
            self.calls.free += (claim.session,)  # no call, as in ``getting``
            return leases
        finally:
            if not is_over:
                self.calls.abandon(claim)

    def task_done(self) -> None:
        """End the item that this thread has had longest; if it has never had one, the oldest of other threads.

        Raises:
            ValueError: there is none.
            LeaseLostError: its lease is over. The next call is for the next item.
        """
        self.check_open()
        held = self._holdings.oldest()
        if held is None:
            raise ValueError(
                "task_done() called too many times: this thread has no item from get() of this handle left; call it "
                "once for each item, in the process that got the item"
            )
        try:
            self.end(held)
        except LeaseLostError:
            held.is_ended = True
            raise

    def decode(self, entry: bytes) -> Any:
        """Return the item of an entry."""
        return self._forms.decode(entry, self._identity)

    def is_held(self, held: Held) -> bool:
        """Whether a lease has not been ended or lost, and is this process's."""
        return held in self._holdings and self.pid == os.getpid()

    def end(self, held: Held) -> None:
        """End a lease and its item."""
        self.run(self.ending(held))

    def ending(self, held: Held) -> Call[None]:
        """Return the call that does so."""
        return self._settling(held, "done")

    def give_back(self, held: Held, delay: float, last: bool) -> None:
        """End a lease and keep the item in the queue."""
        self.run(self.giving_back(held, delay, last))

    def giving_back(self, held: Held, delay: float, last: bool) -> Call[None]:
        """Return the call that does so."""
        wait = arguments.delay_of(delay, last) // 1_000_000
        return self._settling(held, "release", wait, int(last), 1)

    def _settling(self, held: Held, kind: str, *how: int) -> Call[None]:
        """End a lease. After a request without an answer it sends the same again, so that the answer is the truth."""
        if self.pid != os.getpid():
            self._holdings.lost(held)
        before, held.attempt = held.attempt, None
        if before is None:
            self._holdings.remove(held)
        if before is None or before.kind != kind or before.is_old:
            session = before.session if before is not None else None
            before = self.calls.attempt(kind, *how, held.token, session=session)
        is_over = False
        try:
            (was_mine,) = yield from self.calls.attempted(before)
            is_over = True
        finally:
            if not is_over:
                held.attempt = before
                self._holdings.keep(held)
        self._holdings.forget(held.token)
        if not was_mine:
            self._holdings.lost(held)
        held.is_ended = True

    def give_back_after_error(self, held: Held) -> None:
        """End a lease whose block an exception has left. If the server does not answer at once, a thread asks on."""
        with suppress(SharedMemoryQueueError):  # the exception of the block is what the caller is to see
            self.run(self.giving_back_after_error(held))

    def giving_back_after_error(self, held: Held) -> Call[None]:
        """Return the call that does so."""
        if self.pid != os.getpid():
            self._holdings.lost(held)
        before, held.attempt = held.attempt, None
        self._holdings.remove(held)
        session = before.session if before is not None else None
        attempt = self.calls.attempt("release", 0, 1, 1, held.token, session=session, until=0)
        is_over = False
        try:
            yield from self.calls.attempted(attempt)
            is_over = True
        finally:
            if not is_over:
                self.calls.errand(attempt.ask)

    def ending_all(self, leases: Sequence[RemoteLease[Any]]) -> Attempt:
        """Return the request that ends leases and their items at once; after an exception it may be run again."""
        return self.calls.attempt("done", *(lease.held.token for lease in leases))

    def giving_all_back(self, leases: Sequence[RemoteLease[Any]]) -> Attempt:
        """Return the request that gives items back at once, as if they had not been delivered."""
        return self.calls.attempt("release", 0, 0, 0, *(lease.held.token for lease in leases))

    def run_for_all(self, leases: Sequence[RemoteLease[Any]], attempt: Attempt) -> list[bool]:
        """Run such a request; return for each whether the lease had not been lost."""
        were_mine = self.run(self.calls.attempted(attempt))
        for lease in leases:
            self._holdings.forget(lease.held.token)
            lease.note_end()
        return were_mine

    def drop(self, held: Held) -> None:
        """Give back what nothing refers to."""
        if self.pid == os.getpid():
            self._holdings.drop(held)

    def letters(self) -> list[RemoteDeadLetter[Any]]:
        """Return the dead letters, the oldest first."""
        sizes = self.run(self.calls.simple("letters"))[1]
        letters: list[RemoteDeadLetter[Any]] = []
        some: list[int] = []  # of which the server tells at once
        size = 0
        for position, more in sorted(zip(sizes[::2], sizes[1::2], strict=True)):
            if some and size + more > MOST_BYTES:
                letters += self._letters_of(some)
                some, size = [], 0
            some.append(position)
            size += more
        return letters + self._letters_of(some) if some else letters

    def _letters_of(self, positions: Sequence[int]) -> list[RemoteDeadLetter[Any]]:
        """Return those of some dead letters that are still there."""
        letters = []
        found = self.run(self.calls.simple("letters_of", *positions))[1]
        for position, letter in zip(positions, found, strict=True):
            if letter is not None:
                deliveries, _, entry = letter.partition(b":")
                letters.append(RemoteDeadLetter[Any](self, position, int(deliveries), entry))
        return letters

    def end_letter(self, letter: RemoteDeadLetter[Any], puts_back: bool) -> None:
        """End a dead letter, or put it back. After a request without an answer it sends the same again."""
        here = self.here()
        if here is not self:
            letter.move_to(here)
            here.end_letter(letter, puts_back)
            return
        before, letter.attempt = letter.attempt, None
        if before is None or before.ask.arguments[-1] != int(puts_back) or before.is_old:
            session = before.session if before is not None else None
            before = self.calls.attempt("end_letter", letter.position, int(puts_back), session=session)
        is_over = False
        try:
            (was_there,) = self.run(self.calls.attempted(before))
            is_over = True
        except ShutDown:
            is_over = True
            raise
        finally:
            if not is_over:
                letter.attempt = before
        if not was_there:
            raise DeadLetterGoneError(letter.position)

    # ---- all the rest -----------------------------------------------------------------------------------------------

    def join(self, until: float) -> bool:
        """Wait until nothing is in the queue or being processed."""
        return self.run(self.joining(until))

    def joining(self, until: float) -> Call[bool]:
        """Return the call that waits for that."""
        return self.calls.join(until)

    def shutdown(self, immediate: bool) -> None:
        """Accept no more items; drop those that are there if ``immediate``."""
        self.run(self.calls.simple("shutdown", int(immediate)))

    def look(self) -> Look:
        """Return what there is."""
        return Look(self.run(self.calls.simple("look")))

    def server(self) -> opening.Server:
        """Return what the server says of itself."""
        self.check_open()
        return opening.server_of(self._link)[0]

    def unlink(self) -> None:
        """Remove the queue, if it is still there."""
        link = Link(self._place, self._patience) if self.is_closed else self._link
        with suppress(QueueNotFoundError):
            link.run(self.calls.simple("unlink"))
        if link is not self._link:
            link.close()

    def close(self) -> None:
        """Close the handle, end calls that wait, give leases back."""
        if self.is_closed:
            return
        self.is_closed = self.calls.is_closed = True
        self._link.close()
        if self.pid == os.getpid():
            self._holdings.close()
        for loop, link in list(self._task_links.items()):
            if loop.is_closed():
                link.close()
            else:
                with suppress(RuntimeError):  # it was closed just now
                    loop.call_soon_threadsafe(link.close)
        self._task_links.clear()

    def cut(self) -> None:
        """Close the handle at once; calls end without the answers for which they wait, and leases end by time."""
        self.is_closed = self.calls.is_closed = True
        self._link.cut()

    async def close_in_task(self) -> None:
        """Close the handle, without keeping the event loop from other tasks."""
        await asyncio.to_thread(self.close)
        await asyncio.sleep(0)  # in which the loop closes its connections

    def __del__(self) -> None:
        """Give back what nothing refers to any more."""
        with suppress(Exception):  # the interpreter may be shutting down, or __init__ may not have run
            if not self.is_closed:
                self._holdings.retire()


class Forks:
    """Whose turn it is to make handles anew in a forked child.

    A thread of the parent may have held the lock when it forked, so the child has a new one.
    """

    def __init__(self) -> None:
        self._renew()
        os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self.lock = threading.Lock()


forks: Final = Forks()

_of_parents: Final[list[Handle]] = []
"""Handles of the processes from which this one was forked. They stay: if the connections of their event loops were
closed here, those loops, which share what they watch with this process, would hear no more of them."""


def _nothing() -> Call[None]:
    yield from ()
