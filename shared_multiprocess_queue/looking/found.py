"""What a look from outside finds: typed, and true only of the moment at which it was taken."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from .._ring.layout import Mode

SCHEMA: Final = 1
"""The number of the form that ``as_dict`` and the output of ``shmq --json`` have. New keys do not change it."""

Liveness = Literal["alive", "paused", "dead", "unknown"]
State = Literal["ok", "damaged", "layout", "unfinished", "leftover", "foreign", "denied"]


@dataclass(frozen=True, slots=True)
class QueueBlocker:
    """A live process that holds what others need.

    Attributes:
        pid: its process id.
        position: of the slot that it holds; for the batch lock that of the next put.
        doing: "put", "get" or "put_batch".
    """

    pid: int
    position: int
    doing: str


@dataclass(frozen=True, slots=True)
class QueueLease:
    """An item that is being processed.

    Attributes:
        pid: id of the process that has it.
        position: of the item in the queue.
        deliveries: how often the item was handed out, this time included.
        seconds: for how long the process has had it.
    """

    pid: int
    position: int
    deliveries: int
    seconds: float


@dataclass(frozen=True, slots=True)
class QueueProcess:
    """A process that takes part in a queue, or has it mapped.

    Attributes:
        pid: its process id, in its own pid namespace.
        state: "alive", "paused" (stopped by a signal or a debugger), "dead", or "unknown": it is of another pid
            namespace.
        command: its command line; empty if it cannot be looked at. Another user may have chosen it.
        records: number of participant records that it has; 0 for a forked child that has not used the queue yet.
        doing: what it has announced, in words; empty for nothing.
        roles: in mode "spsc": "producer", "consumer", both or nothing.
    """

    pid: int
    state: Liveness
    command: str
    records: int
    doing: str
    roles: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class QueueLook:
    """What is in a queue of this layout.

    Attributes:
        capacity: number of slots.
        item_size: most bytes of an item in one slot.
        max_item_size: most bytes of an item, which may take several slots.
        stride: bytes from one slot to the next.
        mode: "mpmc" or "spsc".
        leases: number of lease slots.
        serializer: the format of the items, as the queue states it: "pickle", "plain", or a name of the program's own.
        items: as ``qsize`` counts them.
        slots_used: slots that hold items. What is leased, or came back from a lease, is in none.
        empty: whether a get would find nothing. It may be False beside no items: a get that died left its item.
        full: whether a put would find no room.
        head: position of the next get.
        tail: position of the next put.
        put_total: slots filled by puts so far: one for each item, or as many as it takes.
        got_total: slots freed by gets so far, counted likewise.
        put_waits: times that a put slept for room.
        get_waits: times that a get slept for an item.
        full_events: times that Full was raised.
        empty_events: times that Empty was raised.
        orphans_recovered: items taken over from dead getters.
        dead_puts: puts that died before they were complete. Those that no process has passed yet are counted up to the
            first item, in 100,000 slots at most; beyond these ``empty`` is False.
        bells_refused: rings of a doorbell that no process answered.
        redelivered: times that a leased item was handed out again.
        lease_waits: times that a get found an item and no lease for it.
        dead_letters: dead letters that are there.
        asleep: sides that may have sleepers: "getters", "putters".
        batch_lock: "held" or "free", by the name in the header.
        gate: whether a batch keeps single puts waiting.
        shut_down: whether no put is accepted any more.
        delete: whether the queue goes with its last user.
        unlinked: whether the name was removed.
        creator: pid of the process that made it.
        processes: that take part in it or have it mapped, by pid.
        hidden: number of processes that could not be looked at; None if no process was looked at.
        leased: the items that are being processed.
        blocked_by: live processes that hold what others need.
    """

    capacity: int
    item_size: int
    max_item_size: int
    stride: int
    mode: Mode
    leases: int
    serializer: str
    items: int
    slots_used: int
    empty: bool
    full: bool
    head: int
    tail: int
    put_total: int
    got_total: int
    put_waits: int
    get_waits: int
    full_events: int
    empty_events: int
    orphans_recovered: int
    dead_puts: int
    bells_refused: int
    redelivered: int
    lease_waits: int
    dead_letters: int
    asleep: tuple[str, ...]
    batch_lock: Literal["held", "free"]
    gate: bool
    shut_down: bool
    delete: bool
    unlinked: bool
    creator: int
    processes: tuple[QueueProcess, ...]
    hidden: int | None
    leased: tuple[QueueLease, ...]
    blocked_by: tuple[QueueBlocker, ...]

    def count(self, *states: str) -> int:
        """Return how many processes are in one of these states."""
        return sum(one.state in states for one in self.processes)


@dataclass(frozen=True, slots=True)
class QueueFile:
    """A segment in shared memory, as ``list_queues`` and ``inspect`` find it.

    Attributes:
        name: of the segment, without its ending "-queue": ``name``, or ``run_id-name``. It may have any characters.
        state: "ok"; "damaged": its words say what no queue says; "layout": of another version of this package;
            "unfinished": a process is making it; "leftover": its creation has not ended, and no process uses it;
            "foreign": no queue; "denied": this user may not read it.
        why: what is wrong, in words; empty if it is ok.
        device: of the file; with ``inode`` it tells this queue from a later one of its name.
        inode: of the file.
        uid: id of the user that it belongs to.
        size: bytes of the segment.
        memory: bytes of memory that it takes.
        created: real time in seconds at which it was made; if its layout does not tell, at which it was last changed.
        in_use: whether any process uses it, which the lock of use says; None if that cannot be told.
        layout: number of its layout; None if it has none.
        look: what is in it; None if that cannot be told.
    """

    name: str
    state: State
    why: str
    device: int
    inode: int
    uid: int
    size: int
    memory: int
    created: float
    in_use: bool | None
    layout: int | None
    look: QueueLook | None

    @property
    def identity(self) -> tuple[int, int, float]:
        """What tells this queue from an earlier or later one of its name."""
        return self.device, self.inode, self.created if self.look else 0

    def as_dict(self) -> dict[str, Any]:
        """Return all this as dicts, lists, texts and numbers, for JSON."""
        return {key: _plain(value) for key, value in asdict(self).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, tuple) else value
