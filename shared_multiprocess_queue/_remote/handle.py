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
    QueueRefusedError,
    QueueUnavailableError,
)
from . import opening
from .calls import Call, Calls, T, Taken, closed
from .forms import Forms
from .holdings import Held, Holdings
from .lease import RemoteDeadLetter, RemoteLease
from .link import Link
from .opening import Fixed
from .task_link import TaskLink
from .where import Place

__all__ = ["Handle"]

_MOST_ITEMS: Final = 10_000  # of a batch: a script occupies the server as long as it runs
_MOST_BYTES: Final = 16 << 20


class Handle:
    """Everything that one process has of a queue on a server.

    A forked child gets another one by ``again``: connections, sessions and leases are its parent's.

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
        self._uuid = bytes.fromhex(calls.uuid)
        self._link = link
        self._calls = calls
        self._forms = forms
        self._place = place
        self._patience = patience
        self._holdings = Holdings(calls, link, fixed.lease / 1000, place.shown)
        self._task_links: dict[asyncio.AbstractEventLoop, TaskLink] = {}

    def to_pickle(self) -> tuple[str, Forms, float]:
        """Return what another process needs to open the same queue, besides its place."""
        return self.uuid, self._forms, self._patience

    def again(self) -> Handle:
        """Return a handle of the same queue for this process, which was forked from that of this handle."""
        link = Link(self._place, self._patience)
        calls = self._calls.of_holder(opening.holder())
        self._holdings.give_all_back()  # they are the parent's
        child = Handle(link, calls, self.fixed, self._forms, self._place, self._patience)
        child.is_closed = calls.is_closed = self.is_closed
        return child

    def run(self, call: Call[T]) -> T:
        """Run a call in this thread."""
        self.check_open()
        return self._link.run(call)

    async def run_in_task(self, call: Call[T]) -> T:
        """Run a call in this task."""
        self.check_open()
        loop = asyncio.get_running_loop()
        link = self._task_links.get(loop)
        if link is None:
            link = self._task_links[loop] = TaskLink(self._place, self._patience)
        return await link.run(call)

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
        return self._calls.put([self._forms.encode(item, self.fixed.item_size, self._uuid)], until)

    def putting_batch(self, items: Iterable[object], until: float) -> Call[None]:
        """Return the call that puts several items.

        Raises:
            ArgumentError: there are too many, or too many bytes.
        """
        self.check_open()
        batch = arguments.countable(items, self.fixed.capacity)
        size = self.fixed.item_size
        entries = [self._forms.encode(item, size, self._uuid, index) for index, item in enumerate(batch)]
        total = sum(map(len, entries))
        if len(entries) > _MOST_ITEMS or total > _MOST_BYTES:
            raise ArgumentError(
                f"a batch of {len(entries):,} items and {total:,} bytes would occupy the server for too long; a batch "
                f"may have {_MOST_ITEMS:,} items and {_MOST_BYTES:,} bytes: split it"
            )
        return self._calls.put(entries, until) if entries else _nothing()

    def begin_bridge(self, origin: str) -> int:
        """Begin to bring items of a queue; return the epoch."""
        return self.run(self._calls.bridge_begin(origin))

    def bring(
        self, origin: str, epoch: int, forgotten: Sequence[int], items: Sequence[tuple[int, bytes]]
    ) -> int | None:
        """Put items of another queue; see ``Calls.bring``."""
        return self.run(self._calls.bring(origin, epoch, forgotten, items))

    def entry_of(self, item: object) -> bytes:
        """Return what is put for an item."""
        return self._forms.encode(item, self.fixed.item_size, self._uuid)

    def getting(self, most: int, until: float) -> Call[list[Any]]:
        """Take up to ``most`` items. One that cannot be read ends the list, or, as the first one, is the error."""
        while True:
            self._check_that_some_are_left()
            taken = yield from self._calls.take(most, until, self._holdings.of_this_process())
            held = self._holdings.add(taken, for_thread=True) if self.fixed.leases else []
            items, error = self._read(taken)
            if error is not None:
                ends = taken[: len(items) or 1]
                yield from self._release([one.token for one in taken[len(ends) :]])
                taken = ends
                if not items:
                    yield from self._end(held[:1], taken)
                    raise error
            if held:
                return items
            kept = yield from self._end([], taken)
            items = [item for item, is_mine in zip(items, kept, strict=True) if is_mine]
            if items:
                return items

    def _read(self, taken: Sequence[Taken]) -> tuple[list[Any], DeserializationError | None]:
        items: list[Any] = []
        for one in taken:
            try:
                items.append(self._forms.decode(one.entry, self._uuid))
            except DeserializationError as error:
                return items, error
        return items, None

    def _end(self, held: Sequence[Held], taken: Sequence[Taken]) -> Call[list[bool]]:
        for one in held:
            with suppress(LeaseLostError):
                self._holdings.remove(one)
        return self._calls.once("done", *(one.token for one in taken))

    def _release(self, tokens: Sequence[str], delay: int = 0, last: bool = False) -> Call[list[bool]]:
        for token in tokens:
            self._holdings.forget(token)
        if not tokens:
            return []
        return (yield from self._calls.once("release", delay, int(last), *tokens))

    def _check_that_some_are_left(self) -> None:
        leases = self.fixed.leases
        if leases and self._holdings.of_this_thread() >= leases:
            raise LeasesHeldError(leases)

    # ---- leases -----------------------------------------------------------------------------------------------------

    def leasing(self, most: int, until: float) -> Call[list[RemoteLease[Any]]]:
        """Take up to ``most`` items for leases."""
        self._check_that_some_are_left()
        taken = yield from self._calls.take(most, until, self._holdings.of_this_process())
        return [RemoteLease(self, held) for held in self._holdings.add(taken, for_thread=False)]

    def task_done(self) -> None:
        """End the item that this thread has had longest, or the oldest of other threads.

        Raises:
            ValueError: there is none.
        """
        self.check_open()
        while (held := self._holdings.oldest()) is not None:
            with suppress(LeaseLostError):
                self.end(held)
                return
        raise ValueError(
            "task_done() called too many times: this process has no item from get() of this handle whose lease is not "
            "over; call it once for each item, in the process that got the item"
        )

    def decode(self, entry: bytes) -> Any:
        """Return the item of an entry."""
        return self._forms.decode(entry, self._uuid)

    def is_held(self, held: Held) -> bool:
        """Whether a lease has not been ended or lost, and is this process's."""
        return held in self._holdings and self.pid == os.getpid()

    def end(self, held: Held) -> None:
        """End a lease and its item."""
        self._settle(held, self._calls.once("done", held.token))

    def give_back(self, held: Held, delay: float, last: bool) -> None:
        """End a lease and keep the item in the queue."""
        wait = arguments.delay_of(delay, last) // 1_000_000
        self._settle(held, self._calls.once("release", wait, int(last), held.token))

    async def end_in_task(self, held: Held) -> None:
        """End a lease and its item, from a task."""
        await self.run_in_task(self._settling(held, self._calls.once("done", held.token)))

    async def give_back_in_task(self, held: Held, delay: float, last: bool) -> None:
        """End a lease and keep the item in the queue, from a task."""
        wait = arguments.delay_of(delay, last) // 1_000_000
        await self.run_in_task(self._settling(held, self._calls.once("release", wait, int(last), held.token)))

    def _settle(self, held: Held, call: Call[list[bool]]) -> None:
        self.run(self._settling(held, call))

    def _settling(self, held: Held, call: Call[list[bool]]) -> Call[None]:
        if self.pid != os.getpid():
            self._holdings.lost(held)
        self._holdings.remove(held)
        try:
            (was_mine,) = yield from call
        except BaseException:
            self._holdings.keep(held)  # so that it can be tried again
            raise
        if not was_mine:
            self._holdings.lost(held)

    def drop(self, held: Held) -> None:
        """Give back what nothing refers to."""
        if self.pid == os.getpid():
            self._holdings.drop(held)

    def letters(self) -> list[RemoteDeadLetter[Any]]:
        """Return the dead letters, the oldest first."""
        found = self.run(self._calls.simple("letters"))[1]
        letters = []
        for position, letter in zip(found[::2], found[1::2], strict=True):
            deliveries, _, entry = letter.partition(b":")
            letters.append(RemoteDeadLetter[Any](self, int(position), int(deliveries), entry))
        return sorted(letters, key=lambda letter: letter.position)

    def end_letter(self, position: int, puts_back: bool) -> None:
        """End a dead letter, or put it back."""
        (was_there,) = self.run(self._calls.once("end_letter", position, int(puts_back)))
        if not was_there:
            raise DeadLetterGoneError(position)

    # ---- all the rest -----------------------------------------------------------------------------------------------

    def join(self, until: float) -> bool:
        """Wait until nothing is in the queue or being processed."""
        return self.run(self.joining(until))

    def joining(self, until: float) -> Call[bool]:
        """Return the call that waits for that."""
        return self._calls.join(until)

    def shutdown(self, immediate: bool) -> None:
        """Accept no more items; drop those that are there if ``immediate``."""
        self.run(self._calls.simple("shutdown", int(immediate)))

    def look(self) -> Look:
        """Return what there is."""
        return Look(self.run(self._calls.simple("look")))

    def server(self) -> opening.Server:
        """Return what the server says of itself."""
        self.check_open()
        return opening.server_of(self._link)[0]

    def unlink(self) -> None:
        """Remove the queue, if it is still there."""
        link = Link(self._place, self._patience) if self.is_closed else self._link
        with suppress(QueueNotFoundError):
            link.run(self._calls.simple("unlink"))
        if link is not self._link:
            link.close()

    def close(self) -> None:
        """Close the handle, end calls that wait, give leases back."""
        if self.is_closed:
            return
        self.is_closed = self._calls.is_closed = True
        if self.pid == os.getpid():
            tokens = self._holdings.give_all_back()
            if tokens:
                with suppress(QueueNotFoundError, QueueUnavailableError, QueueRefusedError):
                    self._link.run(self._calls.once("release", 0, 0, *tokens))
        self._link.close()

    async def close_in_task(self) -> None:
        """Close the handle, and the connections of this event loop."""
        link = self._task_links.pop(asyncio.get_running_loop(), None)
        await asyncio.to_thread(self.close)
        if link is not None:
            await link.close()

    def __del__(self) -> None:
        """Give back what nothing refers to any more. This may come in the middle of a request, so a thread does it."""
        with suppress(Exception):  # the interpreter may be shutting down, or __init__ may not have run
            if not self.is_closed and len(self._holdings) and self.pid == os.getpid():
                threading.Thread(target=self.close, name=f"end of {self._place.shown}", daemon=True).start()


class Look:
    """What a look at a queue has seen, at one moment.

    Attributes:
        waiting: items that no getter has.
        in_line: those of them that take room from puts; the others came back.
        leased: items that getters have.
        dead: dead letters.
        holders: of what is leased, at most 1,000: name, position, deliveries, and seconds until the lease ends.
    """

    def __init__(self, answer: list[Any]) -> None:
        _, in_line, returned, leased, dead, fields, tokens, now = answer
        self.in_line: int = in_line
        self.waiting: int = in_line + returned
        self.leased: int = leased
        self.dead: int = dead
        self._fields = dict(zip(fields[::2], fields[1::2], strict=True))
        self.holders: list[tuple[str, int, int, float]] = []
        for token, ends in zip(tokens[::2], tokens[1::2], strict=True):
            position, deliveries, holder = token.decode().split(":", 2)
            self.holders.append((holder, int(position), int(deliveries), (float(ends) - now) / 1000))

    def number(self, field: str) -> int:
        """Return a counter."""
        return int(self._fields.get(field.encode(), 0))


def _nothing() -> Call[None]:
    yield from ()
