"""Dead letters: items that came back too often, and how they move between lease slots and dead slots (labels M).

Each move is decided by the word of the dead slot, which names the lease slot that takes part. The process that holds
the lease slot takes each step. After its death its heir reads in that word how far the move has come, and ends it or
takes it back; ``LEASE_LINK`` of the lease slot says in which dead slot to look.

    burial     FREE --M1--> BURYING(L) --M2 copy, M3--> BURIED(L) --count(L) = 0, M4--> LETTER
    put back   LETTER --M5--> OFFERED --M6, M7--> PUT_BACK, or LETTER again if the queue was shut down
               PUT_BACK --M8 link, copy, M9--> GIVEN(L) --count(L) = 1, M10--> FREE
    dropped    LETTER --M11--> FREE

From BURIED on the item is the dead slot's, before that it is the lease slot's; from GIVEN on it is the lease slot's
again. No process holds a dead slot. So a look at letters, however long it takes, keeps nothing from others, and of
several processes that drop a letter or put it back one succeeds, as the word has a version.

A look at letters ends first what dead processes have left half done: a burial, an offer. The process that takes M4
counts the letter.

A letter is no item of the queue, so no join waits for it. From OFFERED on it is one. The version of RETURNED_AT goes up
before an item can leave OFFERED [M6]: by that a join knows that a letter has come back behind its look [J5].
"""

from __future__ import annotations

from typing import Final, NamedTuple

from .._platform.atomic_words import Words
from . import ending
from .claim import CORRUPT, Payload
from .layout import (
    DEAD_BURIED,
    DEAD_BURYING,
    DEAD_COUNT,
    DEAD_FREE,
    DEAD_GIVEN,
    DEAD_HEAD_SIZE,
    DEAD_LEASE_MASK,
    DEAD_LEASE_SHIFT,
    DEAD_LENGTH,
    DEAD_LETTER,
    DEAD_LETTERS_AT,
    DEAD_LETTERS_REFUSED_AT,
    DEAD_OFFERED,
    DEAD_POSITION,
    DEAD_PUT_BACK,
    DEAD_WORD,
    LEASE_COUNT,
    LEASE_HEAD_SIZE,
    LEASE_LENGTH,
    LEASE_LINK,
    LEASE_POSITION,
    TAG_MASK,
    Geometry,
    dead_state,
    names_lease,
    next_dead_word,
)
from .parking import Parking

_HALF: Final = 4  # bytes of length, and of meta


class Letter(NamedTuple):
    """A dead letter, as a look has seen it.

    Attributes:
        slot: index of its dead slot.
        word: of that slot, by which the letter is known.
        position: of the item in the ring.
        deliveries: how often the item was taken.
        payload: of the item.
    """

    slot: int
    word: int
    position: int
    deliveries: int
    payload: Payload


class DeadLetters:
    """The dead slots of one segment, and what operations do to them; no method waits.

    Args:
        buffer: the mapped segment.
        geometry: its sizes.
        parking: where waiters sleep.
    """

    def __init__(self, buffer: memoryview, geometry: Geometry, parking: Parking) -> None:
        self._bytes = memoryview(buffer)
        self._geometry = geometry
        self._parking = parking
        self._next = 0  # where the search for a free slot begins

    def release(self) -> None:
        """Let go of the memory; may be called again."""
        self._bytes.release()

    def _head(self, index: int) -> int:
        return self._geometry.dead_heads + index * DEAD_HEAD_SIZE

    def _lease(self, index: int) -> int:
        return self._geometry.lease_heads + index * LEASE_HEAD_SIZE

    def _dead_item(self, index: int) -> tuple[int, int]:
        """Return the offsets of a dead slot's length and meta, and of its payload."""
        return self._head(index) + DEAD_LENGTH, self._geometry.dead_payloads + index * self._geometry.lease_stride

    def _leased_item(self, lease: int) -> tuple[int, int]:
        """Return the offsets of a lease slot's length and meta, and of its payload."""
        return self._lease(lease) + LEASE_LENGTH, self._geometry.lease_payloads + lease * self._geometry.lease_stride

    def _copy(self, source: tuple[int, int], target: tuple[int, int]) -> None:
        """Copy an item; its length comes from the segment and is not believed."""
        (from_half, from_at), (to_half, to_at) = source, target
        length = min(self._number(from_half), self._geometry.max_item_size)
        self._bytes[to_at : to_at + length] = self._bytes[from_at : from_at + length]
        self._bytes[to_half : to_half + 2 * _HALF] = self._bytes[from_half : from_half + 2 * _HALF]

    def _number(self, at: int) -> int:
        return self._bytes[at : at + _HALF].cast("I")[0]

    # ---- burial -----------------------------------------------------------------------------------------------------

    def bury(self, words: Words, lease: int) -> bool:
        """Move the item of a lease slot, which the caller holds, to a dead slot; False: all of these are taken."""
        number, start = self._geometry.dead, self._next
        for step in range(number):
            index = (start + step) % number
            if self._try_to_bury(words, index, lease):
                self._next = (index + 1) % number
                return True
        words.add(DEAD_LETTERS_REFUSED_AT, 1)
        return False

    def _try_to_bury(self, words: Words, index: int, lease: int) -> bool:
        head, lease_head = self._head(index), self._lease(lease)
        word = words.load(head + DEAD_WORD)
        if dead_state(word) != DEAD_FREE:
            return False
        words.announce(lease_head + LEASE_LINK, index + 1)  # before [M1], for an heir
        burying = next_dead_word(word, DEAD_BURYING, lease)
        if not words.cas(head + DEAD_WORD, word, burying):  # [M1] acq_rel: the slot is this lease slot's
            return False
        self._copy(self._leased_item(lease), self._dead_item(index))  # [M2] relaxed, before [M3]
        words.announce(head + DEAD_COUNT, words.load(lease_head + LEASE_COUNT))
        words.announce(head + DEAD_POSITION, words.load(lease_head + LEASE_POSITION))
        # [M3] release: from here on the item is the dead slot's
        words.cas(head + DEAD_WORD, burying, next_dead_word(burying, DEAD_BURIED, lease))
        self.settle(words, lease)
        return True

    def settle(self, words: Words, lease: int) -> None:
        """End the move in which a lease slot of the caller takes part, or take it back."""
        lease_head = self._lease(lease)
        link = words.load(lease_head + LEASE_LINK)
        if not 0 < link <= self._geometry.dead:
            return
        at = self._head(link - 1) + DEAD_WORD
        word = words.load(at)
        if not names_lease(word, lease):
            return
        state = dead_state(word)
        if state == DEAD_BURIED:
            words.announce(lease_head + LEASE_COUNT, 0)  # [E8] release, before [M4]
            self._make_letter(words, at, word)
            return
        if state == DEAD_GIVEN and not words.load(lease_head + LEASE_COUNT):
            words.announce(lease_head + LEASE_COUNT, 1)  # [E5] release, before [M10]; pairs with [J4]
        words.cas(at, word, next_dead_word(word, DEAD_FREE))  # [M10] release, after [E5]; a burial is taken back

    def _make_letter(self, words: Words, at: int, word: int) -> None:
        """Make a letter of an item that is buried, and that its lease slot does not count any more."""
        if words.cas(at, word, next_dead_word(word, DEAD_LETTER)):  # [M4] acq_rel, after [E8]; pairs with [M5][M11]
            words.add(DEAD_LETTERS_AT, 1)

    # ---- looking at letters -----------------------------------------------------------------------------------------

    def unfinished(self, words: Words) -> list[int]:
        """End what needs no lease slot: offers, and burials after [E8]; return the lease slots of other burials."""
        found = []
        for index in range(self._geometry.dead):
            at = self._head(index) + DEAD_WORD
            word = self._decided(words, index)
            lease = word >> DEAD_LEASE_SHIFT & DEAD_LEASE_MASK
            if dead_state(word) != DEAD_BURIED or lease >= self._geometry.leases:
                continue
            if words.load(self._lease(lease) + LEASE_COUNT):
                found.append(lease)
            else:
                self._make_letter(words, at, word)
        return found

    def letters(self, words: Words) -> list[Letter]:
        """Return the dead letters, the oldest items first; nothing is changed."""
        found = []
        for index in range(self._geometry.dead):
            head = self._head(index)
            word = words.load(head + DEAD_WORD)
            if dead_state(word) == DEAD_LETTER:
                one = Letter(
                    index, word, words.load(head + DEAD_POSITION), words.load(head + DEAD_COUNT), self._read(index)
                )
                if words.load(head + DEAD_WORD) == word:  # otherwise it is gone, and the copy may be of two
                    found.append(one)
        return sorted(found, key=lambda one: one.position)

    def _read(self, index: int) -> Payload:
        half, at = self._dead_item(index)
        length, tag = self._number(half), self._number(half + _HALF) & TAG_MASK
        if length > self._geometry.max_item_size:
            length, tag = self._geometry.max_item_size, CORRUPT
        return bytes(self._bytes[at : at + length]), tag

    def drop(self, words: Words, letter: Letter) -> bool:
        """End a letter and its item; return False if it is gone."""
        at = self._head(letter.slot) + DEAD_WORD
        return words.cas(at, letter.word, next_dead_word(letter.word, DEAD_FREE))  # [M11] acq_rel, pairs with [M1][M4]

    # ---- putting back -----------------------------------------------------------------------------------------------

    def put_back(self, words: Words, letter: Letter) -> bool | Letter:
        """Make the item of a letter an item of the queue again, as if it was just put.

        Returns:
            True: it is. False: the letter is gone, and it is not known that this call put it back. A letter: the queue
                was shut down, and this one stays.
        """
        if ending.is_closed(words):
            return letter
        at = self._head(letter.slot) + DEAD_WORD
        offered = next_dead_word(letter.word, DEAD_OFFERED)
        if not words.cas(at, letter.word, offered):  # [M5] seq, before [M6]; pairs with [D5][J4]
            return False
        refused = next_dead_word(offered, DEAD_LETTER)
        is_taken = self._decide(words, at, offered)
        if is_taken is None:  # another process has decided, and the next may have come already
            word = words.load(at)
            if word not in (refused, next_dead_word(offered, DEAD_PUT_BACK)):
                return not ending.is_closed(words)  # otherwise it cannot be told which it was
            is_taken = word != refused
        return is_taken or letter._replace(word=refused)

    def _decide(self, words: Words, at: int, offered: int) -> bool | None:
        """Decide whether the queue takes a letter that is offered; any process may do so, and one decides.

        Returns:
            True: it does. False: the letter stays. None: another process has decided.
        """
        # [M6] seq, after [M5]; pairs with [D1]: either a get that finds the end sees OFFERED, or this sees CLOSED
        if ending.is_closed(words):
            return False if words.cas(at, offered, next_dead_word(offered, DEAD_LETTER)) else None  # [M7]
        self._parking.note_return(words)  # [M6] RMW, seq, before [M7]; pairs with [J1][J5]
        is_mine = words.cas(at, offered, next_dead_word(offered, DEAD_PUT_BACK))  # [M7] seq, pairs with [J4][M9]
        self._parking.say_returned(words)
        return True if is_mine else None

    def _decided(self, words: Words, index: int) -> int:
        """Return the word of a dead slot, which is not OFFERED, unless it has just become that again."""
        at = self._head(index) + DEAD_WORD
        word = words.load(at)  # [J4] seq, before the lease slots; pairs with [M7][M10]
        if dead_state(word) != DEAD_OFFERED:
            return word
        self._decide(words, at, word)  # its process may have died
        return words.load(at)  # [J4]

    def has_items(self, words: Words) -> bool:
        """Whether a dead slot has an item of the queue."""
        for index in range(self._geometry.dead):
            if dead_state(self._decided(words, index)) in (DEAD_OFFERED, DEAD_PUT_BACK, DEAD_GIVEN):
                return True
        return False

    def waiting(self, words: Words) -> list[tuple[int, int, int]]:
        """Return position, index and word of each item that waits for a lease slot, the oldest first."""
        found = []
        for index in range(self._geometry.dead):
            word = self._decided(words, index)
            if dead_state(word) == DEAD_PUT_BACK:
                found.append((words.load(self._head(index) + DEAD_POSITION), index, word))
        return sorted(found)

    def take(self, words: Words, index: int, word: int, lease: int) -> bool:
        """Move an item that waits into an empty lease slot, which the caller holds; False: another has it.

        The caller writes what else the lease slot says of its item.
        """
        head, lease_head = self._head(index), self._lease(lease)
        words.announce(lease_head + LEASE_LINK, index + 1)  # [M8] before [M9], for an heir
        self._copy(self._dead_item(index), self._leased_item(lease))
        words.announce(lease_head + LEASE_POSITION, words.load(head + DEAD_POSITION))
        # [M9] acq_rel, after the copy: decides which lease slot has the item
        if not words.cas(head + DEAD_WORD, word, next_dead_word(word, DEAD_GIVEN, lease)):
            return False
        self.settle(words, lease)
        return True
