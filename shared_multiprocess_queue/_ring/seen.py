"""What a look at a queue finds of processes: participants, blockers, and what they hold leased."""

from __future__ import annotations

from typing import Literal, NamedTuple

from .._platform.processes import Identity

Liveness = Literal["alive", "dead", "unknown"]
Doing = Literal["put", "get", "put_batch"]


class Participant:
    """One record of the table that is taken.

    Attributes:
        number: index of the record in the table.
        process: its owner; the namespace is the number that the header gives it.
        liveness: "unknown" if that process cannot be looked up from here; such a process is never declared dead.
        is_abandoned: a live thread lost control of it; it counts as dead.
        puts: the positions that a put of it may have claimed; empty if it announces none.
        gets: the same of a get.
        roles: what it is in mode "spsc": "producer", "consumer", both or nothing.
        batch_lock: "holds", "takes" (between the two words of the lock), or "".
    """

    __slots__ = ("batch_lock", "gets", "is_abandoned", "liveness", "number", "process", "puts", "roles")

    def __init__(
        self,
        number: int,
        process: Identity,
        liveness: Liveness,
        is_abandoned: bool,
        puts: range,
        gets: range,
        roles: tuple[str, ...],
        batch_lock: Literal["holds", "takes", ""],
    ) -> None:
        self.number = number
        self.process = process
        self.liveness = liveness
        self.is_abandoned = is_abandoned
        self.puts = puts
        self.gets = gets
        self.roles = roles
        self.batch_lock = batch_lock

    def counts_as_live(self) -> bool:
        """Whether what it holds is respected by others."""
        return self.liveness != "dead" and not self.is_abandoned


class Blocker(NamedTuple):
    """A live process that holds what others need.

    Attributes:
        process: that one.
        position: of the slot that it holds; for the batch lock that of the next put.
        doing: what it is in the middle of.
    """

    process: Identity
    position: int
    doing: Doing


class Leased(NamedTuple):
    """An item that is being processed.

    Attributes:
        process: that has it.
        position: of the item in the queue.
        deliveries: how often the item was taken, this time included.
        since: monotonic time in ns at which the process took it.
    """

    process: Identity
    position: int
    deliveries: int
    since: int
