"""What a caller asks a queue on a server to be like, and how it is opened."""

from __future__ import annotations

from contextlib import suppress
from operator import index
from typing import Final, NamedTuple, SupportsIndex

from .._engine import arguments
from .._engine.arguments import DEFAULTS
from ..errors import ArgumentError, QueueExistsError, shown
from . import opening
from .calls import Calls
from .forms import Forms
from .handle import Handle
from .link import Link
from .opening import Fixed
from .where import Place

__all__ = ["LEASE", "RECONNECT", "Way", "fixed", "handle", "removed", "same_handle", "seconds"]

LEASE: Final = 30.0  # seconds
RECONNECT: Final = 60.0  # seconds
_SHORTEST: Final = 1.0  # seconds: pauses of processes and networks are of that size
_LONGEST: Final = 86_400.0
_LARGEST: Final = 64 << 20  # bytes of an item
_MOST_DELIVERIES: Final = 1_000_000
_LEFT_OUT: Final = {
    "capacity": DEFAULTS.capacity,
    "item_size": DEFAULTS.item_size,
    "leases": DEFAULTS.leases,
    "max_deliveries": 0,
    "lease": int(LEASE * 1000),
}


def fixed(
    capacity: SupportsIndex,
    item_size: SupportsIndex,
    leases: SupportsIndex,
    max_deliveries: SupportsIndex,
    lease: float,
    serializer: str,
) -> Fixed:
    """Return what a caller asks for.

    Raises:
        ArgumentError: an argument can never work.
    """
    with suppress(TypeError):
        if index(item_size) > _LARGEST:
            raise ArgumentError(
                f"item_size must be between 1 and {_LARGEST:,} bytes on a server, not {shown(item_size)}: an item "
                f"occupies it as long as it travels; put large things elsewhere, and send where they are"
            )
    sizes = arguments.sizes(capacity, item_size, "mpmc", leases, max_deliveries, delete=False)
    deliveries = _deliveries(sizes.max_deliveries, sizes.leases)
    return Fixed(sizes.capacity, sizes.item_size, sizes.leases, deliveries, _milliseconds(lease), serializer)


class Way(NamedTuple):
    """How a queue is opened.

    Attributes:
        is_new: whether it is made.
        may_exist: whether one that exists will do.
        wait_until: monotonic time in ns up to which one that does not exist is waited for.
        accepts_eviction: whether its server may drop it.
    """

    is_new: bool
    may_exist: bool
    wait_until: float
    accepts_eviction: bool


def handle(place: Place, run_id: str, forms: Forms, patience: float, wanted: Fixed, way: Way) -> Handle:
    """Make a queue, or find it; return a handle. See ``RemoteQueue`` for the errors."""
    link = Link(place, patience)
    try:
        opening.check(link, place, way.accepts_eviction)
        calls, found = _opened(link, place, run_id, wanted, way)
    except BaseException:
        link.close()
        raise
    return Handle(link, calls, found, forms, place, patience)


def same_handle(place: Place, run_id: str, forms: Forms, patience: float, uuid: str) -> Handle:
    """Return another handle of a queue, which must have that uuid."""
    link = Link(place, patience)
    try:
        calls, found = opening.attach(link, place, run_id, {}, 0, uuid)
    except BaseException:
        link.close()
        raise
    return Handle(link, calls, found, forms, place, patience)


def removed(place: Place, run_id: str) -> bool:
    """Remove the queue of a name; return whether there was one."""
    link = Link(place, RECONNECT)
    try:
        return opening.remove(link, place, run_id)
    finally:
        link.close()


def _opened(link: Link, place: Place, run_id: str, wanted: Fixed, way: Way) -> tuple[Calls, Fixed]:
    if way.is_new:
        try:
            return opening.create(link, place, run_id, wanted), wanted
        except QueueExistsError:
            if not way.may_exist:
                raise
    given = {name: value for name, value in wanted._asdict().items() if value != _LEFT_OUT.get(name)}
    return opening.attach(link, place, run_id, given, way.wait_until)


def _deliveries(max_deliveries: SupportsIndex, leases: int) -> int:
    try:
        number = -1 if isinstance(max_deliveries, bool) else index(max_deliveries)
    except TypeError:
        number = -1
    if not 0 <= number <= _MOST_DELIVERIES:
        raise ArgumentError(
            f"max_deliveries must be a whole number between 0 and {_MOST_DELIVERIES:,}, not {shown(max_deliveries)}"
        )
    if number and not leases:
        raise ArgumentError(f"max_deliveries={number} needs leases: create the queue with leases=N, too")
    return number


def _milliseconds(lease: float) -> int:
    number = seconds("lease", lease)
    if not _SHORTEST <= number <= _LONGEST:
        raise ArgumentError(
            f"lease must be between {_SHORTEST:g} and {_LONGEST:,.0f} seconds, not {shown(lease)}: longer than a "
            f"living process may be silent"
        )
    return round(number * 1000)


def seconds(what: str, value: float) -> float:
    """Return an argument that is a number of seconds.

    Raises:
        ArgumentError: it is negative or NaN.
        TypeError: it is no number.
    """
    try:
        number = float(value + 0)
    except (TypeError, ValueError, ArithmeticError):
        raise TypeError(f"{what!r} must be a number of seconds, not {shown(value)}") from None
    if not number >= 0:
        raise ArgumentError(f"{what!r} must be a non-negative number of seconds, not {shown(value)}")
    return number
