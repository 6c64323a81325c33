"""What a get has got hold of; it outlives the get's frames, so that an interrupt between two steps loses nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Protocol

from .._platform import processes
from .layout import TAG_BITS


class Pieces(Protocol):
    """The bytes of an item that lie in several places."""

    @property
    def pieces(self) -> tuple[tuple[int, Any], ...]:
        """Where each one begins, and its bytes: a buffer of one dimension. What is in between has no meaning."""

    def __len__(self) -> int: ...


Payload = tuple[Any, int]
"""The bytes of an item, or its ``Pieces``, and their codec tag."""

CORRUPT: Final = 1 << TAG_BITS
"""The tag of a payload whose slot said more bytes than a slot holds; no codec has it."""


class Held:
    """A lease slot that this process holds, or is about to take; it outlives the frames, as the claim does.

    Attributes:
        index: of the lease slot.
        owner: the owner word that this process writes into it.
        forks: those of the process; in a forked child others.
        won: the outcome of the compare-and-swap that takes the slot; empty before that.
        left: the outcome of the compare-and-swap that gives it up; empty before that.
        position: of the item that is in it, or that it is for.
        deliveries: how often the item was taken, this time included; 0: it is not known to be there.
        is_of_dead: whether it was taken from a dead process.
        goes_back: whether an interrupted operation gives the item back, because it did not look for one.
        home: where the lease is noted once the caller has the item.
    """

    __slots__ = ("deliveries", "forks", "goes_back", "home", "index", "is_of_dead", "left", "owner", "position", "won")

    def __init__(self, index: int, owner: int, goes_back: bool = False, is_of_dead: bool = False) -> None:
        self.index = index
        self.owner = owner
        self.forks = processes.forks
        self.won: list[int] = []
        self.left: list[int] = []
        self.position = 0
        self.deliveries = 0
        self.goes_back = goes_back
        self.is_of_dead = is_of_dead
        self.home: dict[Held, Held] = {}

    def is_ours(self) -> bool:
        """Whether the slot was taken and was not given up."""
        return bool(self.won and self.won[0]) and not (self.left and self.left[0])


class LeasedPayload(Payload):
    """A payload that lies in a lease slot."""

    held: Held


Home = dict[Held, Held]
"""Leases whose items callers have, in the order in which they got them."""


def held_by(payload: Payload) -> Held:
    """Return the lease of a payload, on a queue with leases."""
    assert isinstance(payload, LeasedPayload)
    return payload.held


def notes_of(taken: Iterable[Payload], home: Home) -> Home:
    """Return what is to be added to a home when the caller gets these payloads."""
    found = {}
    for held in map(held_by, taken):
        held.home = home
        found[held] = held
    return found


class Claim:
    """The claim of an operation in progress; empty between two operations.

    Attributes:
        taken: the payloads that are this operation's, and not its caller's yet.
        begin: first position that is claimed and not yet freed.
        end: one beyond the last claimed position; begin == end means that nothing is claimed.
        copy: a position and the payload of its item, while the freeing of that position is being decided.
        orphan: the payload of a dead getter's position, while its adoption is being decided.
        verdict: the outcome of that compare-and-swap, once it is known.
        place: the position that a put has claimed and that is being written in place; without a meaning otherwise.
        is_seen: whether the caller has seen the one claimed item in its slot, so that it is dropped and not taken.
        slots: the lease slots that are taken, or being taken, and are not among ``taken`` yet.
        ending: the leases that are being ended or given back.
    """

    __slots__ = ("begin", "copy", "end", "ending", "is_seen", "orphan", "place", "slots", "taken", "verdict")

    def __init__(self) -> None:
        self.taken: list[Payload] = []
        self.begin = 0
        self.end = 0
        self.place = 0
        self.is_seen = False
        self.copy: tuple[int, Payload] | None = None
        self.orphan: Payload | None = None
        self.verdict: list[int] = []
        self.slots: list[Held] = []
        self.ending: list[Held] = []

    def keep(self, payload: Payload) -> None:
        """Note a payload as taken; noting it again after an interrupt changes nothing."""
        if not (self.taken and self.taken[-1] is payload):
            self.taken.append(payload)

    def settle_adoption(self) -> bool:
        """Keep the orphan if its compare-and-swap was won; return whether it was."""
        orphan, won = self.orphan, bool(self.verdict and self.verdict[0])
        if orphan is not None and won:
            self.keep(orphan)
        self.orphan = None
        return won
