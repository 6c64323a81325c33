"""The programs that are explored, without their engines: two to four actors, capacity 1 to 3."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ..harness.engines import Engines
from .program import Program, parse_program

_LETTERS: Final[dict[Engines, str]] = {"atomics": "aaaa", "native": "nnnn", "mixed": "nana"}

_TEXTS: Final = (
    "mpmc 1 0 put put",
    "mpmc 1 0 put take",
    "mpmc 1 1 put take",
    "mpmc 1 1 take put+put",
    "mpmc 2 1 put+take take",
    "mpmc 2 1 take take",
    "mpmc 2 2 take2 put",
    "mpmc 2 0 batch take2",
    "mpmc 2 0 batch batch",
    "mpmc 2 1 batch take+take",
    "mpmc 3 1 batch take2+take",
    "mpmc 3 2 take2 take2",
    "mpmc 3 2 take put+is_empty",
    "mpmc 2 1 take is_empty+is_full",
    "mpmc 1 0 put is_full+is_empty",
    "mpmc 2 0 batch join+put+take",
    "mpmc 2 1 take join+take+put",
    "mpmc 1 0 put_wait take_wait",
    "mpmc 1 1 put_wait take_wait",
    "mpmc 2 0 batch_wait take_wait",
    "mpmc 2 1 batch_wait take2",
    "spsc 1 1 put take",
    "spsc 2 0 batch take2",
    "spsc 2 1 put+put take+take",
    "spsc 2 1 put put+take",
    "spsc 1 1 put_wait take_wait",
    "mpmc 1 0 put put take",
    "mpmc 1 1 take take put",
    "mpmc 2 0 put put take",
    "mpmc 2 0 batch put take2",
    "mpmc 2 1 take2 take batch",
    "mpmc 2 0 batch batch take_wait",
    "mpmc 1 1 put_wait put_wait take",
    "mpmc 2 0 take_wait take_wait batch",
    "mpmc 2 0 put put join+take+take",
    "spsc 2 1 put put take",
    "mpmc 1 1 take take take",
    "mpmc 2 0 batch take take",
    "mpmc 2 1 take join+take",
    "mpmc 1 0 put take+take join+put",
    "mpmc 1 0 put+put take_wait take",
    "mpmc 2 0 take_wait take_wait put put",
    "mpmc 2f 1 put put",
    "mpmc 2f 1 put take",
    "mpmc 3f 1 put take2",
    "mpmc 3f 1 batch put+take",
    "mpmc 3f 2 put+take is_full+is_empty",
    "mpmc 3f 1 batch_wait take_wait take_wait",
    "mpmc 3f 1 put put put+take",
    "spsc 2f 1 put take+take",
    "mpmc 1 0 put shutdown+put",
    "mpmc 1 0 take_wait shutdown",
    "mpmc 1 1 put_wait shutdown",
    "mpmc 1 0 put take+take shutdown",
    "mpmc 1 1 take take+take shutdown",
    "mpmc 2 1 take take+take shutdown",
    "mpmc 2 0 batch take2+take shutdown",
    "mpmc 1 1 put_wait take+take shutdown",
    "mpmc 2 1 batch_wait batch_wait shutdown",
    "mpmc 1 0 put put take_wait+take shutdown",
    "mpmc 1 1 take stop+take",
    "mpmc 2 1 take+take put stop",
    "mpmc 1 1 put_wait take stop+put",
    "spsc 1 0 put+put take+take shutdown",
    "spsc 2 1 put+put take+take stop",
    "mpmc 2f 1 take take+take shutdown",
    "mpmc 2f 1 put take+take shutdown",
    "mpmc 2l 0 large take",
    "mpmc 2l 1 take take",
    "mpmc 2l 1 large take+take",
    "mpmc 3l 1 large take+take",
    "mpmc 3l 2 take2 take2",
    "mpmc 3l 2 take put+is_empty",
    "mpmc 3l 0 mixed take2",
    "mpmc 3l 1 put take+take take",
    "mpmc 3l 2 take take large",
    "mpmc 2l 1d take large take",
    "mpmc 3l 1 mixed take+take join+put",
    "mpmc 2l 1 large_wait take take_wait",
    "mpmc 3l 2 large_wait take2 take_wait",
    "mpmc 3l 0 large put take2",
    "spsc 3l 1 large take+take",
    "spsc 2l 1 large_wait take+take_wait",
    "mpmc 3lf 1 put take+take",
    "mpmc 3l 1 take take+take shutdown",
)

_IN_PLACE: Final = (
    "mpmc 1 0 reserve take",
    "mpmc 1 1 view put",
    "mpmc 2 0 reserve put take2",
    "mpmc 1 0 fail put+take",
    "mpmc 1 0 fail reserve take",
    "mpmc 1 0 leak take+put",
    "mpmc 1 1 view reserve take",
    "mpmc 2 1 view view reserve",
    "mpmc 2 2 view take put",
    "mpmc 1 1 into put view",
    "mpmc 2 0 reserve reserve take+view",
    "mpmc 2 1 reserve into join+view",
    "mpmc 3l 1 reserve into+view take",
    "mpmc 3l 2 view into large",
    "mpmc 1 1d view reserve take",
    "spsc 1 1 reserve view",
    "spsc 2 0 fail+reserve view+take",
    "mpmc 2f 1 reserve view+view",
    "mpmc 1 0 reserve view shutdown+put",
    "mpmc 1 1 view take stop",
)

_WITH_BELLS: Final = (
    "mpmc 1 0 take_bell put",
    "mpmc 1 1 put_bell take",
    "mpmc 1 0 take_bell take_bell put",
    "mpmc 1 0 take_bell take_wait put",
    "mpmc 1 0 leave_bell take_bell put",
    "mpmc 1 1 put_bell put_bell take",
    "mpmc 2 0 take_bell take_bell batch",
    "mpmc 2 0 take_bell take_bell put put",
    "mpmc 1 0 take_bell shutdown",
    "mpmc 1 0 take_await put",
    "mpmc 1 1 put_await take",
    "mpmc 1 0 take_await take_await put",
    "mpmc 1 0 take_await take_bell put",
    "mpmc 1 0 leave_await take_await put",
    "mpmc 1 0 heir_await put",
    "mpmc 1 0 heir_await take_await put",
    "mpmc 1 1 put_await put_await take",
    "mpmc 2 0 take_await take_wait batch",
    "mpmc 2 0 take_await take_await put put",
    "mpmc 2 1 batch_await batch_await take2",
    "mpmc 2 1 batch_await batch_wait take2",
    "mpmc 2 1 batch_await put_await",
    "mpmc 3l 1 large_wait put_await",
    "mpmc 1 0 take_await shutdown",
    "mpmc 1 1 put_await shutdown",
    "spsc 1 0 take_await put",
    "spsc 1 1 take take_await",
)

_WITH_LEASES: Final = (
    "mpmc:1 2l 1 lease+done lease+done",
    "mpmc:1 2l 1 large lease+done+lease+done",
    "mpmc:2 3l 2 lease2+done+done lease+release",
    "mpmc:1 2l 1 lease+release lease+done put",
    "mpmc:2 3l 1 large lease+done lease_wait+done",
    "mpmc:1 2l 1 lease+done quiet",
    "mpmc:1 1 1 lease+done lease+done",
    "mpmc:1 1 0 put lease+done",
    "mpmc:1 1 1 lease+release lease+done",
    "mpmc:2 1 1 lease+done lease+done",
    "mpmc:1 2 2 lease+done lease+done",
    "mpmc:2 2 2 lease2+done+done lease+last",
    "mpmc:1 1 1 put lease+done",
    "mpmc:1 1 1 lease+done put",
    "mpmc:1 1 1 lease+done quiet",
    "mpmc:1 1 0 put lease+done quiet",
    "mpmc:1 1 0 put put+quiet",
    "mpmc:1 1 1 lease+done put quiet",
    "mpmc:1 1 1 lease+done lease+done put",
    "mpmc:2 1 1 lease+done lease+done lease+done",
    "mpmc:1 1 1 lease+done lease_wait+done",
    "mpmc:1 2 2 lease+done lease_wait+done",
    "mpmc:1 1 1 lease+done quiet_wait",
    "mpmc:2 3 3 lease2+done lease2+release",
    "mpmc:1 2 1 lease+last+lease+done put+lease",
    "mpmc:1 1 0 put+put lease+done lease+done",
    "mpmc:1 1 1 lease lease put lease",
    "mpmc:1 1 1 lease lease lease_wait+done",
    "mpmc:2 2 2 lease2+done+last lease+done put",
    "mpmc:1 1 0 put+put lease+done+lease+done quiet_wait",
    "spsc:1 1 1 put lease+release+lease+done",
    "mpmc:2 2 1 batch lease2+done lease2",
    "mpmc:1 1 1 lease+done shutdown+lease+done",
    "mpmc:1 1 0 put lease_wait+done shutdown",
    "mpmc:1 1 1 lease+done lease_wait+done shutdown",
    "mpmc:2 2 2 lease+lease+done+done lease+lease+done+done shutdown",
    "mpmc:1 1 1 lease+release lease_wait+done shutdown",
    "mpmc:1 1 1 lease+done quiet_wait shutdown",
    "mpmc:1 1 1 lease+done stop+quiet",
    "mpmc:1 1 1 lease+release stop+quiet lease+done",
    "mpmc:2 1 1 lease+done lease+done stop+quiet",
    "mpmc:1 2 2 lease+done quiet_wait stop",
    "mpmc:1 2f 1 put+put lease+done+lease+done shutdown",
    "spsc:1 1 1 lease+release+lease+done stop+quiet",
    "mpmc:1 2 1d lease+release put+lease+done",
    "mpmc:2 2 2d lease+done lease2+done+done",
    "mpmc:2 2f 2 lease+lease+done quiet",
    "mpmc:3 3f 3 lease+lease+lease lease",
    "mpmc:2 2f 2 lease+done lease_wait+done quiet_wait",
    "mpmc:3 3f 2 lease+release+lease2 lease2+done put",
)

_WITH_LETTERS: Final = (
    "mpmc:1:1 1 1 lease+release lease+done",
    "mpmc:1:1 1 1 lease lease+done",
    "mpmc:1:1 1 1 lease+release+put_back lease+done",
    "mpmc:1:1 1 1 lease+release+put_back lease+done quiet",
    "mpmc:1:1 2l 1 lease+release lease+done",
    "mpmc:1:1 2l 1 lease lease+done large",
    "mpmc:1:1 2l 1 lease+release+put_back lease+done",
    "mpmc:2:1 1 1 lease+release put_back lease+done quiet",
    "mpmc:2:1 2 2 lease+release+put_back lease+done+lease+done lease+done",
    "mpmc:2:1 1 1 lease+release+put_back lease+release+put_back quiet",
    "mpmc:1:1 1 1 lease+release+put_back lease_wait+done",
    "mpmc:1:1 2 2 lease+release+put_back lease_wait+done lease+done",
    "mpmc:1:1 1 1 lease+release+put_back lease+done shutdown",
    "mpmc:1:1 1 1 lease+release+put_back lease+done+lease+done shutdown",
    "mpmc:1:1 1 1 lease+release+put_back shutdown+lease+done",
    "mpmc:1:1 1 1 lease+release+drop put_back lease+done",
    "mpmc:1:1 1 1 lease+release+put_back lease+done stop+quiet",
    "mpmc:1:1 2 2 lease+release+lease lease+done",
    "mpmc:2:1 2 2 lease2+release+release put_back lease+done",
    "mpmc:1:2 1 1 lease+release+lease lease+done quiet",
    "mpmc:1:1 1 1 lease put lease+done",
    "spsc:1:1 1 1 put lease+release+put_back+lease+done",
)

_OF_MIXED: Final = (
    "mpmc:1:1 2 2 n:lease+release a:drop n:lease+done",
    "mpmc:1:1 2 2 n:lease a:drop n:lease+release",
    "mpmc:1:1 1 1 n:lease+release a:put_back n:lease+done",
    "mpmc:2:1 2 2 n:lease+release a:put_back n:lease2+done+release",
)
"""Native processes move items to dead slots and out of them, beside looks at letters, which are in Python."""

_OF_ATOMICS: Final = (
    "mpmc 2 0 a:put A:put a:take2",
    "mpmc 2 1 a:take A:put a:take",
    "mpmc 2 1 a:take2 A:take+put",
    "mpmc 2 0 a:put!cas+put a:put+take",
    "mpmc 2 0 a:batch!publish a:take2+put",
    "mpmc 2 1 a:take!cas+put a:take",
    "mpmc 2 2 a:take2!withdraw_get+put a:take",
    "mpmc 1 1 a:view!drop+put a:take",
    "mpmc 1 0 a:reserve!publish+take a:put",
    "mpmc 1 0 a:fail!recover+put a:take",
    "mpmc 1 1 a:into!finish_get+put a:take",
    "mpmc:1 1 1 a:lease!finish_get+lease+done a:lease+done",
    "mpmc:1 1 1 a:lease!settle+lease+done a:put",
    "mpmc:1 1 1 a:lease+done!_leave+lease a:lease+done",
    "mpmc:2 2 2 a:lease2!take+release a:lease+done",
    "mpmc:2 2 1 a:lease+done A:lease+done a:put",
    "mpmc:1:1 1 1 a:lease+release!bury a:lease+done+put_back",
    "mpmc:1:1 1 1 a:lease+release+put_back!_decide a:lease+done",
    "mpmc:1:1 1 1 a:lease+release+put_back+lease!take+done a:lease+done",
    "mpmc:2:1 2 2 a:lease a:lease+done A:lease_wait a:shutdown",
)
"""Threads of one handle, which the native engine's GIL keeps apart; and interrupts, which it serves elsewhere."""

_POINTS: Final = 40  # a get has about 30 at which it can be interrupted
_POINTS_OF_A_LEASE: Final = 80  # up to its end in the ring


def programs(engines: Engines) -> Iterator[Program]:
    """Yield all programs, for one engine or with both side by side."""
    for text in (*_TEXTS, *_IN_PLACE, *_WITH_BELLS, *_WITH_LEASES, *_WITH_LETTERS):
        mode, capacity, filled, *actors = text.split()
        lettered = [f"{letter}:{actor}" for letter, actor in zip(_LETTERS[engines], actors, strict=False)]
        yield parse_program(" ".join([mode, capacity, filled, *lettered]))
    if engines == "atomics":
        yield from map(parse_program, _OF_ATOMICS)
    if engines == "mixed":
        yield from map(parse_program, _OF_MIXED)


def expand(text: str) -> Iterator[Program]:
    """Yield the program of a text, or, if a call in it is interrupted at ``!*``, one for each of its first points."""
    points = _POINTS_OF_A_LEASE if "lease" in text else _POINTS
    for point in range(points if "!*" in text else 1):
        yield parse_program(text.replace("!*", f"!{point}"))
