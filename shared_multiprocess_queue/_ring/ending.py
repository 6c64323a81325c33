"""The end of work (labels D): shutdown, and the looks at it.

    shutdown   tail |= CLOSED                                     [D1]  no claim of a put succeeds any more
               immediate: head |= STOPPED                         [D7]  no claim of a get succeeds any more
               wake all waiters
    put        tail is closed: refused                            [D2]
    get        head is stopped: refused                           [D2]
               at a closed tail, which is final                   [D3]
               no record has an unfinished get                    [D4]
               no other process has leased an item                [D5]  nothing can come
               just took a lease slot, and head is stopped        [D6]  it is given up, and its item dropped

A put is accepted or refused by one word, tail, by the compare-and-swap that claims. With a flag beside tail, a put
could read the flag, and claim after a get has found the end. D1 comes before D7: in the other order a put could be
accepted after a get was refused. There is no way back, because only a final tail makes the end decidable.

In mode "spsc" the native consumer stores head, and a store would drop the mark; so STOPPED has a word of its own there,
which each get loads. Tail has no such way out: a get that decides about the end would have to know of every store
on its way. So a put claims by compare-and-swap in this mode, too.
"""

from __future__ import annotations

from .._platform.atomic_words import Reader, Words
from .layout import CLOSED, IDLE, ITEMS, SPACE, STOPPED, TAIL, Mode, stop_word
from .parking import Parking


def is_closed(words: Reader) -> bool:
    """Whether the queue was shut down: no put is accepted any more."""
    return bool(words.load(TAIL) & CLOSED)


def is_stopped(words: Reader, mode: Mode) -> bool:
    """Whether the queue was shut down at once: no get takes anything any more."""
    return bool(words.load(stop_word(mode)) & STOPPED)


def shut(words: Words, mode: Mode, parking: Parking, immediate: bool) -> None:
    """Shut the queue down, and wake all its waiters; may be called again.

    Args:
        words: the caller's access.
        mode: of the queue.
        parking: where its waiters sleep.
        immediate: drop what is in the queue.
    """
    _mark(words, TAIL, CLOSED)  # [D1] RMW, seq; pairs with [P6][G3]
    if immediate:
        _mark(words, stop_word(mode), STOPPED)  # [D7] RMW, seq, after [D1]; pairs with [G5]
    parking.wake_all(words, ITEMS)
    parking.wake_all(words, SPACE)
    parking.wake_all(words, IDLE)
    parking.wake_turn(words, everyone=True)


def _mark(words: Words, at: int, mark: int) -> None:
    while not (seen := words.load(at)) & mark:
        words.cas(at, seen, seen | mark)
