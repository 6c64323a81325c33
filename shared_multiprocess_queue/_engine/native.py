"""The native engine: put, get and their batches in C, on the same segment, by the same protocol.

The C code (_native/handle.h) has records of its own and does all that is frequent, and takes the roles of mode "spsc".
What is rare is done by the engine in Python, on the same segment and beside it: metrics, definitions, liveness, the
end. So this *is* that engine, with a ``Handle`` in front. Items that interrupted gets had taken lie in the one pool of
both.

There is no such module where the extension was not built: the import fails.
"""

from __future__ import annotations

import os
from typing import Any, ClassVar, NoReturn

from .._codec.codec import Codec
from .._native.extension import Handle, note_fork
from .._platform import clock, processes
from .._platform.atomic_words import Words
from .._ring import parking
from .._ring.layout import ITEMS, PRODUCER_AT, SPACE
from .atomics import QUIET, AtomicsEngine, EngineName
from .doorbell import Doorbell
from .records import Pool

os.register_at_fork(after_in_child=note_fork)


class NativeEngine(AtomicsEngine):
    """The operations of one handle on one segment; see ``AtomicsEngine`` for the arguments."""

    name: ClassVar[EngineName] = "native"

    _handle: Handle | None = None  # until it takes part
    _is_late = False  # close was called, and an operation is still in progress

    def open(self, codec: Codec, calls: Any) -> Handle:
        """Take part in the queue; see ``AtomicsEngine.open``."""
        self._handle = handle = Handle(
            segment=self._segment.buffer,
            lock=self._flag.buffer,
            capacity=self._geometry.capacity,
            item_size=self._geometry.item_size,
            spsc=self._spsc,
            owner=self.participants.owner,
            slice=parking.SLICE,
            may_spin=parking.cores() > 1,
            engine=self,
            codec=codec,
            calls=calls,
            kept_back=self._pool.kept_back,
            on_keep_back=self._on_keep_back,
        )
        try:
            handle.size()  # takes the first record
        except BaseException:
            handle.shut()
            handle.leave()
            handle.release()
            self._handle = None
            raise
        return handle

    def settle(self) -> Pool:
        """Forget, in a forked child that uses the queue for the first time, what belongs to the parent."""
        with processes.settling:
            pool = super().settle()
            if self._handle is not None:
                self._handle.settle(self.participants.owner, pool.kept_back)
            return pool

    # ---- what the C code asks for -----------------------------------------------------------------------------------

    def serve(self) -> None:  # what a signal handler raises shows here
        """Raise what signals and other threads have for this one: the interpreter looks when a function starts."""

    def nothing_found(self, puts: bool) -> None:
        """Let the doorbell of a side wait for what a call has not found."""
        self.quieten(SPACE if puts else ITEMS)

    def refuse(self) -> NoReturn:
        """Say that the handle is closed."""
        self._pool.refuse()

    def corrupt(self, position: int, word: int) -> NoReturn:
        """Say that the slot of a position holds a word that no queue writes."""
        self.ring.corrupt(position, word)

    # ---- mode spsc --------------------------------------------------------------------------------------------------

    def _try_role(self, words: Words, at: int) -> int | None:
        """Take the role under the name that the puts and gets in C have."""
        handle = self._handle
        return super()._try_role(words, at) if handle is None else handle.take_role(at == PRODUCER_AT)

    def _leave_roles(self) -> None:
        super()._leave_roles()
        handle = self._handle
        if handle is not None:
            handle.leave_roles()

    # ---- looking ----------------------------------------------------------------------------------------------------

    def size(self) -> int:
        """Return about how many items are there."""
        handle = self._handle  # another thread may close meanwhile
        return super().size() if handle is None else handle.size()

    def is_empty(self) -> bool:
        """Whether a get would find nothing."""
        handle = self._handle  # another thread may close meanwhile
        return super().is_empty() if handle is None else handle.is_empty()

    def is_full(self) -> bool:
        """Whether a put would find no room."""
        handle = self._handle  # another thread may close meanwhile
        return super().is_full() if handle is None else handle.is_full()

    # ---- doorbells --------------------------------------------------------------------------------------------------

    def doorbell(self, side: int) -> Doorbell:
        """Return the doorbell of a side; see ``AtomicsEngine.doorbell``."""
        found = super().doorbell(side)
        handle = self._handle
        if handle is not None:
            handle.set_doorbell(side == SPACE, True)
        return found

    # ---- the end ----------------------------------------------------------------------------------------------------

    def wake_all(self) -> None:
        """Let everybody who waits look again."""
        handle = self._handle
        if handle is not None:
            handle.wake_all()

    def retire(self) -> None:
        """Give up what can be given up while other threads may be in an operation: items kept back, idle records."""
        super().retire()
        handle = self._handle
        if handle is not None:
            handle.leave()

    def shut(self) -> None:
        """Begin no operation any more."""
        super().shut()
        handle = self._handle
        if handle is not None:
            handle.shut()

    def close(self, wait: bool) -> bool:
        """End the operations of this handle's threads, and leave; see ``AtomicsEngine.close``."""
        handle = self._handle
        if handle is None:
            return super().close(wait)
        self.close_doorbells()
        handle.shut()
        until = clock.now() + QUIET
        while not handle.leave():
            if not wait or clock.now() > until:
                self._is_late = True
                return False
            handle.wake_all()
            clock.sleep(0.001)
        if not super().close(wait):
            return False
        handle.release()
        self._handle = None  # which refers to this; a call that was serialising an item may still use it
        return True

    def ended(self) -> None:
        """Leave after the last operation of a closed handle, if ``close`` has not waited for it."""
        if self._is_late:
            self._is_late = False
            super().close(False)
