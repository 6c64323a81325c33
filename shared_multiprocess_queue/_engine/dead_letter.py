"""A dead letter: what ``SharedMemoryQueue.dead_letters`` returns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, NoReturn

from .._codec import in_place
from .._ring.claim import CORRUPT
from .._ring.dead_letters import Letter
from ..errors import DeadLetterGoneError, ShutDown
from .calls import corrupt_slot

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    from .._codec.formats import ItemCodec
    from .._ring.dead_letters import DeadLetters
    from .membership import Membership

    T = TypeVar("T", default=Any)
else:
    from typing import TypeVar

    T = TypeVar("T")


class DeadLetter(Generic[T]):
    """An item that came back after ``max_deliveries`` deliveries, and is delivered no more.

    It stays where it is until a process ends it by ``done()``, or gives it back to the queue by ``put_back()``; of
    several that try, one succeeds. To look at it changes nothing and holds nothing, so there is nothing to close. It
    cannot be pickled.

    Example:
        >>> from shared_multiprocess_queue import SharedMemoryQueue
        >>> jobs = SharedMemoryQueue("doc-letter", create=True, leases=4, max_deliveries=1)
        >>> jobs.put("bad job")
        >>> jobs.lease(timeout=1.0).release()
        >>> for letter in jobs.dead_letters():
        ...     letter.item, letter.deliveries
        ...     letter.done()
        ('bad job', 1)
        >>> jobs.close(); jobs.unlink()
    """

    __slots__ = ("__orig_class__", "_codec", "_letter", "_membership", "_queue")

    def __init__(self, queue: object, membership: Membership, codec: ItemCodec, letter: Letter) -> None:
        self._queue = queue  # which closes when nothing refers to it
        self._membership = membership
        self._codec = codec
        self._letter = letter

    @property
    def item(self) -> T:
        """The item; it is deserialised each time, so that ``deliveries`` can be looked at before that.

        Raises:
            DeserializationError: that is not possible; ``raw`` has its bytes, and ``done()`` ends it.
            CorruptQueueError: its length in shared memory is more than an item has; ``done()`` ends it.
        """
        data, tag = self._letter.payload
        if tag == CORRUPT:
            corrupt_slot(self._membership)
        item: T = self._codec.decode(data, tag)
        return item

    @property
    def raw(self) -> bytes:
        """The bytes of the item, as they lay in the queue."""
        return in_place.raw(*self._letter.payload)

    @property
    def deliveries(self) -> int:
        """At least the number of times that the item was handed out."""
        return self._letter.deliveries

    def done(self) -> None:
        """End the item: it is delivered to none any more. Once this has returned, no other process ends the letter.

        If the process dies after that, the item is lost: no lease protects a letter.

        Raises:
            DeadLetterGoneError: it was ended or put back before.
            QueueClosedError: the handle is closed; a ValueError and an OSError.
        """
        with self._membership.operation() as record:
            is_ended = self._dead_letters().drop(record.words, self._letter)
        if not is_ended:
            raise DeadLetterGoneError(self._letter.position)

    def put_back(self) -> None:
        """Give the item back to the queue, as if it was just put: its deliveries are counted anew.

        It comes before what was put later, once a lease is free for it. It takes no place from puts.

        Raises:
            DeadLetterGoneError: it was ended or put back before. Or this call did put it back, and could not tell: that
                is so if this process was held up in it, and meanwhile another process took the item and the queue was
                shut down.
            ShutDown: the queue was shut down; the letter stays.
            QueueClosedError: the handle is closed; a ValueError and an OSError.
        """
        with self._membership.operation() as record:
            outcome = self._dead_letters().put_back(record.words, self._letter)
        if isinstance(outcome, Letter):
            self._letter = outcome
            raise ShutDown
        if not outcome:
            raise DeadLetterGoneError(self._letter.position)

    def _dead_letters(self) -> DeadLetters:
        leases = self._membership.ring.leases  # of this process, after a fork
        assert leases is not None
        assert leases.dead_letters is not None
        return leases.dead_letters

    def __reduce__(self) -> NoReturn:
        raise TypeError("a DeadLetter cannot be pickled: it belongs to a handle; send its item instead")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of position {self._letter.position}, {self.deliveries} deliveries>"
