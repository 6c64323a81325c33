"""Programs to explore, and schedules, each with a text that can be typed in again.

A program is ``mode capacity filled actors``: ``mpmc 2 1 a:put+take n:batch`` is a queue of capacity 2 with one item in
it, a handle of the atomics engine that puts and then takes, and a native one that puts a batch of two. ``A`` is another
thread of the handle before it. The slots of capacity ``2f`` are fresh: each gets its number when it is first used. A
call with ``!17`` behind it is interrupted at the 17th point at which Python serves signals in it, one with ``!cas``
where it first enters a function of that name.

``mpmc:2`` is a queue with two leases, ``mpmc:2:1`` one with two leases that allows one delivery. In one of fresh slots,
the lease slots behind the first get memory when they are needed. Of ``2d`` items in it, a get that is dead has claimed
the first.

In a queue of capacity ``3l`` items may be large: ``large`` puts one that takes two slots, ``mixed`` a small one and
such a large one. Of the items in it, the first is large.

``reserve`` writes an item in place, ``fail`` leaves the block of one by an exception, ``leak`` keeps its memory, and
writes there later if it may; ``view`` reads one in place, and ``into`` takes one into memory of its own.

A call ``..._bell`` waits on a doorbell, as a program with ``select`` does, and closes it; one ``..._await`` is awaited
in an event loop of its own. A ``leave`` gives up when it has begun to wait and the scheduler lets it; ``heir_await``
are two gets of one loop, of which the first is cancelled then.

A schedule is a list of decisions ``step>actor`` (before that step, let this actor run), ``stepx`` (before that step,
the running actor dies) and ``stepxactor`` (before that step, an actor dies that waits on a bell). Without a decision,
an actor runs until it ends or waits, and then the next one does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from ..harness.engines import Mode

DIES: Final = -1


def dies_asleep(actor: int) -> int:
    """Return the decision that an actor dies which waits on a bell; the same function gives the actor."""
    return DIES - 1 - actor


FOUND: Final = 7
"""Exit status of a search that found a broken rule."""

ITEM_SIZE: Final = 16
"""Bytes of a slot."""
PUTS: Final = {
    **{"put": (1,), "batch": (1, 1), "put_wait": (1,), "batch_wait": (1, 1)},
    **{"put_bell": (1,), "put_await": (1,), "batch_await": (1, 1)},
    **{"large": (2,), "mixed": (1, 2), "large_wait": (2,)},
    **{"reserve": (1,), "fail": (1,), "leak": (1,)},
}
"""Calls that put, and how many slots each of their items takes."""
TAKES: Final = {
    **{"take": 1, "take2": 2, "take_wait": 1},
    **{"take_bell": 1, "leave_bell": 1, "take_await": 1, "leave_await": 1, "heir_await": 1},
    **{"view": 1, "into": 1},
}
"""Calls that take, and how many items at most; ``take`` is get, ``take2`` is get_batch of two."""
BELLS: Final = tuple(name for name in (*PUTS, *TAKES) if name.endswith(("_bell", "_await")))
"""Calls that wait on descriptors."""
LEASES: Final = {"lease": 1, "lease2": 2, "lease_wait": 1}
"""Calls that lease, and how many items at most."""
LEASE_ENDS: Final = ("done", "release", "last")
"""Calls that end the oldest lease of the handle: the item is processed, given back, or given back behind all others."""
LETTERS: Final = ("put_back", "drop")
"""Calls that put the first dead letter back, or end it."""
QUIETS: Final = ("quiet", "quiet_wait")
"""Joins of the queue."""
LOOKS: Final = ("is_empty", "is_full")
ENDS: Final = ("shutdown", "stop")
"""Calls that end the work; ``stop`` is an immediate shutdown."""
JOIN: Final = "join"
"""If this is an actor's first call, it opens its handle only then; other actors have theirs before."""
CALLS: Final = (*PUTS, *TAKES, *LOOKS, *LEASES, *LEASE_ENDS, *LETTERS, *QUIETS, *ENDS, JOIN)
_MODES: Final[dict[str, Mode]] = {"mpmc": "mpmc", "spsc": "spsc"}
ENGINES: Final = {"a": "atomics", "n": "native"}


class ProgramError(ValueError):
    """A text that is no program or no schedule."""


class Step(NamedTuple):
    """One call of an actor.

    Attributes:
        call: its name.
        interrupt: the point, or the function, at which it is interrupted; None: it is not.
    """

    call: str
    interrupt: int | str | None = None


@dataclass(frozen=True)
class ActorPlan:
    """An actor: the calls of one handle.

    Attributes:
        engine: of its handle.
        steps: what it does.
        is_thread: whether it shares the handle of the one before.
    """

    engine: str
    steps: tuple[Step, ...]
    is_thread: bool = False


@dataclass(frozen=True)
class Program:
    """A queue and its actors."""

    mode: Mode
    capacity: int
    filled: int
    actors: tuple[ActorPlan, ...]
    leases: int = 0
    is_fresh: bool = False
    has_orphan: bool = False
    has_large: bool = False
    max_deliveries: int = 0

    def __str__(self) -> str:
        texts = []
        for actor in self.actors:
            calls = [step.call if step.interrupt is None else f"{step.call}!{step.interrupt}" for step in actor.steps]
            letter = actor.engine[0].upper() if actor.is_thread else actor.engine[0]
            texts.append(f"{letter}:{'+'.join(calls)}")
        mode = f"{self.mode}:{self.leases}" if self.leases else self.mode
        mode += f":{self.max_deliveries}" if self.max_deliveries else ""
        capacity = f"{self.capacity}{'l' * self.has_large}{'f' * self.is_fresh}"
        filled = f"{self.filled}{'d' * self.has_orphan}"
        return " ".join([mode, capacity, filled, *texts])


Decision = tuple[int, int]
"""Number of a step, and the actor that runs from there on; or DIES, or what ``dies_asleep`` returns."""
Schedule = tuple[Decision, ...]


def parse_program(text: str) -> Program:
    """Return the program that a text means.

    Raises:
        ProgramError: it means none.
    """
    try:
        mode, capacity, filled, *actors = text.split()
        mode, leases, most = (*mode.split(":"), "", "")[:3]
        plans, is_fresh = tuple(map(_parse_actor, actors)), capacity.endswith("f")
        has_large, has_orphan = "l" in capacity, filled.endswith("d")
        number, there = int(capacity.removesuffix("f").removesuffix("l")), int(filled.removesuffix("d"))
        program = Program(
            _MODES[mode], number, there, plans, int(leases or 0), is_fresh, has_orphan, has_large, int(most or 0)
        )
    except (ValueError, KeyError) as error:
        raise ProgramError(f"{text!r} is no program ({error}); one looks like 'mpmc 2 1 a:put+take n:batch'") from None
    slots = program.filled + (has_large and program.filled > 0)
    if not has_orphan <= program.filled <= slots <= program.capacity or not actors:
        raise ProgramError(f"{text!r} is no program: mode, capacity, how many items are there, then one or more actors")
    return program


def item_named(name: str, slots: int) -> str:
    """Return the text of an item that takes so many slots; each part of it has the name."""
    return name if slots == 1 else (name * ITEM_SIZE)[: ITEM_SIZE * (slots - 1) + len(name)]


def slots_of(item: str) -> int:
    """Return how many slots an item takes."""
    return -(-len(item) // ITEM_SIZE)


def _parse_actor(text: str) -> ActorPlan:
    engine, _, calls = text.partition(":")
    steps = []
    for call in calls.split("+"):
        name, _, point = call.partition("!")
        if name not in CALLS:
            raise ValueError(f"{name!r} is none of {', '.join(CALLS)}")
        steps.append(Step(name, (int(point) if point.isdigit() else point) if point else None))
    return ActorPlan(ENGINES[engine.lower()], tuple(steps), engine.isupper())


def schedule_text(schedule: Schedule) -> str:
    """Return the text of a schedule."""
    return " ".join(f"{at}{_what_text(what)}" for at, what in schedule)


def _what_text(what: int) -> str:
    if what >= 0:
        return f">{what}"
    return "x" if what == DIES else f"x{dies_asleep(what)}"


def parse_schedule(text: str) -> Schedule:
    """Return the schedule that a text means.

    Raises:
        ProgramError: it means none.
    """
    found = []
    for word in text.split():
        at, runs, actor = word.partition(">")
        at, _, dead = at.partition("x")
        try:
            found.append((int(at), int(actor) if runs else dies_asleep(int(dead)) if dead else DIES))
        except ValueError:
            raise ProgramError(f"{word!r} is no decision; '7>1', '9x' and '9x1' are some") from None
    return tuple(found)
