"""Checking the arguments of the public class, and making them plain values."""

from __future__ import annotations

from collections.abc import Iterable
from operator import index
from typing import Any, Final, NamedTuple, SupportsIndex, cast, get_args

from .._codec.formats import Format, Serializer
from .._codec.own_format import name_of
from .._platform import clock
from .._ring import stated_format
from .._ring.layout import (
    MAX_BATCH,
    MAX_CAPACITY,
    MAX_DELIVERIES,
    MAX_ITEM_SIZE,
    MAX_LEASES,
    MODES,
    Geometry,
    Mode,
)
from ..errors import ArgumentError, CorruptQueueError, QueueMismatchError, shown


class _NotGiven:
    __slots__ = ()

    def __repr__(self) -> str:
        return "<not given>"


NOT_GIVEN: Final[Any] = _NotGiven()
"""The default of an argument for which None would be a value."""


class Sizes(NamedTuple):
    """The values that are fixed when a queue is created."""

    capacity: int
    item_size: int
    mode: Mode
    delete: bool
    leases: int = 0
    max_deliveries: int = 0
    max_item_size: int = 0  # 0: as item_size


DEFAULTS: Final = Sizes(capacity=1000, item_size=4096, mode="mpmc", delete=False)


DEFAULT_FORMAT: Final = Format()


def only_item(method: str, item: Any, obj: Any) -> Any:
    """Return the item of a put, which has two names: that of ``queue.Queue``, and that of ``multiprocessing.Queue``.

    Raises:
        TypeError: both were given, or neither.
    """
    if item is NOT_GIVEN and obj is NOT_GIVEN:
        raise TypeError(f"{method}() needs an item: {method}(item), {method}(item=item) or {method}(obj=item)")
    if item is not NOT_GIVEN and obj is not NOT_GIVEN:
        raise TypeError(f"{method}() takes one item and got two: 'item' and 'obj' are names of the same argument")
    return obj if item is NOT_GIVEN else item


def creates(create: bool) -> bool:
    """Return the argument ``create``.

    Raises:
        ArgumentError: the argument is no bool; if it is a number, the caller probably means the capacity.
    """
    if create is True or create is False:
        return create
    try:
        number = index(create)
    except TypeError:
        raise ArgumentError(
            f"create must be True or False, not {shown(create)} of type {type(create).__name__}"
        ) from None
    raise ArgumentError(f"create must be True or False; the capacity is capacity={shown(number)}")


def ways_to_open(is_anonymous: bool, create: bool, exist_ok: bool, wait: float | None) -> tuple[bool, bool]:
    """Return whether a queue is to be made, and whether it may exist all the same.

    Raises:
        ArgumentError: the arguments contradict each other, or one is no bool.
    """
    is_new, may_exist = creates(create), _flag("exist_ok", exist_ok)
    if is_anonymous:
        if may_exist or wait != 0:
            raise ArgumentError(
                "a queue without a name is always a new one: give a name to attach to a queue, with wait=seconds if it "
                "may not exist yet, or with create=True, exist_ok=True"
            )
        return True, False
    if may_exist and not is_new:
        raise ArgumentError("exist_ok=True is for create=True: together they make the queue, or attach if it exists")
    if is_new and wait != 0:
        raise ArgumentError("wait is for attaching: leave it out, as create=True does not wait for a queue")
    return is_new, may_exist


def sizes(
    capacity: SupportsIndex,
    item_size: SupportsIndex,
    mode: str,
    leases: SupportsIndex,
    max_deliveries: SupportsIndex,
    delete: bool,
    is_anonymous: bool = False,
    max_item_size: SupportsIndex | None = None,
) -> Sizes:
    """Return what is fixed when a queue is created as plain values.

    Raises:
        ArgumentError: a size is not a whole number, or is too small or too large; there is no such mode; or ``delete``
            is no bool.
    """
    return Sizes(
        _between("capacity", capacity, MAX_CAPACITY, "slots", _NO_END),
        _between("item_size", item_size, MAX_ITEM_SIZE, "bytes"),
        _mode(mode),
        _flag("delete", delete) or is_anonymous,
        _between("leases", leases, MAX_LEASES, "items in processing at once", least=0),
        _between("max_deliveries", max_deliveries, MAX_DELIVERIES, "deliveries of an item", least=0),
        0 if max_item_size is None else _largest_item(max_item_size),
    )


def _largest_item(value: SupportsIndex) -> int:
    """Return the argument ``max_item_size``; whether it fits the other sizes is seen when they are those of a queue."""
    number = _whole(value)
    if number is None or number < 1:
        raise ArgumentError(f"max_item_size must be a whole number of bytes, item_size or more, not {shown(value)}")
    return number


def _flag(what: str, value: bool) -> bool:
    if value is True or value is False:
        return value
    raise ArgumentError(f"{what} must be True or False, not {shown(value)} of type {type(value).__name__}")


def agree(name: str, asked: Sizes, found: Geometry, delete: bool, asked_format: Format, found_format: str) -> None:
    """Check that a queue is what a caller asks for.

    Args:
        name: of the queue.
        asked: by the caller; a default asks for nothing.
        found: in the queue.
        delete: whether the queue goes with its users.
        asked_format: by the caller, always: leaving it out asks for pickle.
        found_format: what the queue states.

    Raises:
        QueueMismatchError: a value, or the format, differs from that of the queue.
        CorruptQueueError: the queue states a format that there is not.
    """
    own = Sizes(
        found.capacity, found.item_size, found.mode, delete, found.leases, found.max_deliveries, found.max_item_size
    )
    differing: list[tuple[str, Any, Any]] = [
        (what, value, theirs)
        for what, value, theirs, default in zip(Sizes._fields, asked, own, DEFAULTS, strict=True)
        if value not in (theirs, default)
    ]
    own_format = stated_format.stated(asked_format.name)
    if own_format != found_format:
        if not stated_format.is_known(found_format):
            raise CorruptQueueError(
                f"the header of queue {name!r} is damaged: it states {found_format!r} as the format of its items; if "
                f"the queue is no longer needed, remove it by SharedMemoryQueue.remove({name!r}), and create it again"
            )
        differing.append(("serializer", own_format, found_format))
    if differing:
        raise QueueMismatchError(
            name,
            {what: value for what, value, _ in differing},
            {what: theirs for what, _, theirs in differing},
        )


def format_of(serializer: str, dumps: object, loads: object) -> Format:
    """Return how the items of a queue are to be written.

    Raises:
        ArgumentError: there is no such serializer; or ``dumps`` and ``loads`` are not two functions that have a name.
    """
    serializers: tuple[Serializer, ...] = get_args(Serializer)
    if not isinstance(serializer, str) or serializer not in serializers:
        raise ArgumentError(f"serializer must be 'pickle' or 'plain', not {shown(serializer)}")
    known = serializers[serializers.index(serializer)]
    if dumps is None and loads is None:
        return Format(known)
    for what, function in (("dumps", dumps), ("loads", loads)):
        if function is None:
            raise ArgumentError(f"dumps and loads belong together, and {what} is missing")
        if not callable(function):
            raise ArgumentError(f"{what} must be a function, not {shown(function)}")
        if not name_of(function):
            raise ArgumentError(
                f"{what} must have a name, by which processes can tell that all use the same, and {shown(function)} "
                f"has none; give a function that is made by def"
            )
    if known != DEFAULT_FORMAT.serializer:
        raise ArgumentError(f"serializer={known!r} and dumps and loads exclude each other")
    return Format(known, (cast(Any, dumps), cast(Any, loads)))


def countable(items: Iterable[object], capacity: int) -> list[object]:
    """Return the items of a batch as a list.

    Raises:
        ArgumentError: there are more items than the queue can ever hold.
    """
    batch = list(items)
    limit = min(capacity, MAX_BATCH)
    if len(batch) > limit:
        raise ArgumentError(
            f"a batch of {len(batch):,} items can never fit: this queue holds {limit:,}; split the batch, or "
            f"create the queue with a larger capacity"
        )
    return batch


def check_slots(count: int, slots: int, capacity: int) -> None:
    """Check that the slots are there which the items of a batch take.

    Raises:
        ArgumentError: they are more than the queue can ever have free.
    """
    limit = min(capacity, MAX_BATCH)
    if slots > limit:
        raise ArgumentError(
            f"a batch of {count:,} items that takes {slots:,} slots can never fit: this queue has {limit:,}; split the "
            f"batch, or create the queue with a larger capacity"
        )


def most_items(max_items: SupportsIndex) -> int:
    """Return the argument ``max_items`` as a plain number.

    Raises:
        ArgumentError: the argument is not a whole number, or is below 1.
    """
    number = _whole(max_items)
    if number is None or number < 1:
        raise ArgumentError(f"max_items must be a whole number of at least 1, not {shown(max_items)}")
    return number


def reserved(nbytes: SupportsIndex, item_size: int) -> int:
    """Return the argument of ``reserve`` as a plain number.

    Raises:
        ArgumentError: the argument is not a whole number, or is more than a slot has.
    """
    advice = f"; a reservation lies in one slot, and this queue has item_size={item_size}"
    return _between("nbytes", nbytes, item_size, "bytes", advice, least=0)


def refuse_leases(method: str, leases: int) -> None:
    """Refuse a call that takes an item without a lease, in a queue that has leases.

    Raises:
        ArgumentError: it has.
    """
    if leases:
        raise ArgumentError(
            f"{method} is not for a queue with leases, where an item is in processing until it is ended: take it by "
            f"lease() or get()"
        )


def delay_of(delay: float, last: bool) -> int:
    """Return the argument ``delay`` of ``Lease.release`` in nanoseconds.

    Raises:
        ArgumentError: it cannot be, or is given although ``last``.
    """
    seconds = clock.delay_of(delay)
    if seconds > _LONGEST_DELAY:
        raise ArgumentError(f"delay must be at most {_LONGEST_DELAY:,} seconds, not {shown(delay)}")
    if seconds and last:
        raise ArgumentError(f"release() takes a delay or last=True, not both: got delay={shown(delay)}")
    return int(seconds * 1e9)


_LONGEST_DELAY: Final = 1e9  # seconds; some 30 years
_NO_END: Final = "; there is no unlimited queue: choose the most items that may ever wait, capacity=1000 for example"


def _between(what: str, value: SupportsIndex, limit: int, unit: str, advice: str = "", least: int = 1) -> int:
    number = _whole(value)
    if number is None:
        raise ArgumentError(f"{what} must be a whole number of {unit}, not {shown(value)}{advice}")
    if not least <= number <= limit:
        raise ArgumentError(f"{what} must be between {least} and {limit:,} {unit}, not {shown(value)}{advice}")
    return number


def _whole(value: SupportsIndex) -> int | None:
    """Return any kind of integer as an exact int; None if the value is no integer. A bool is no integer here."""
    if isinstance(value, bool):
        return None
    try:
        return index(value)
    except TypeError:
        return None


def _mode(value: str) -> Mode:
    for mode in MODES:
        if isinstance(value, str) and value == mode:  # the value may be a member of a str enumeration
            return mode
    raise ArgumentError(f"mode must be 'mpmc' (any number of producers and consumers) or 'spsc', not {shown(value)}")
