"""The table of participants: what each operation has announced, and which of them are dead (labels R, S).

A participant is one operation in progress; its record says which process runs it and which positions it may have
claimed. An announcement is stored before the claim and withdrawn after the publication (or the freeing), which gives
recovery its one rule: *a claimed position that no live record covers is an orphan*.

Only its owner writes a record, and only one of the announcements of a record is used at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from .._platform import processes
from .._platform.atomic_words import Words
from .._platform.system import SYSTEM, System
from .claim import Claim
from .layout import (
    ABANDONED,
    GENERATION,
    GET_BEGIN,
    GET_END,
    LOCK_BUSY,
    NAMESPACES,
    NAMESPACES_AT,
    OWNER,
    PUT_BEGIN,
    PUT_END,
    RECORDS,
    RECORDS_USED_AT,
    WORD,
    name_of,
    owner_of,
    parse_name,
    parse_owner,
    record_at,
)


class Record:
    """A record that this process owns, with the access to the words and the claim of the operation that uses it.

    Attributes:
        words: access to the segment, for the operation that has this record.
        claim: what that operation has got hold of.
        forks: those of the process that took the record; in a forked child others.
        index: its place in the table.
        at: its offset.
        put_at: offset of its announcement of a put: begin, and end in the word behind it.
        get_at: offset of its announcement of a get.
        generation: how often the record has been taken.
        name: its name, for whatever outlives one scan (a role, a lock).
    """

    __slots__ = ("__weakref__", "at", "claim", "forks", "generation", "get_at", "index", "name", "put_at", "words")

    def __init__(self, words: Words, claim: Claim) -> None:
        self.words = words
        self.claim = claim
        self.forks = processes.forks
        self.place(0, 0)

    def place(self, index: int, generation: int) -> None:
        """Say which record of the table this is."""
        self.index = index
        self.at = record_at(index)
        self.put_at = self.at + PUT_BEGIN
        self.get_at = self.at + GET_BEGIN
        self.generation = generation
        self.name = name_of(index, generation)

    def announce_put(self, begin: int, end: int) -> None:
        """Say that positions begin to end-1 may be claimed by a put of mine."""
        # [P3] begin first: nothing is covered in between. [P4] release, pairs with [S2]: begin is there when end is.
        self.words.announce_range(self.put_at, begin, end)

    def withdraw_put(self) -> None:
        """Say that no position is claimed by a put of mine."""
        self.words.announce(self.put_at + WORD, 0)  # [P9] release, pairs with [S2]: a scan that sees this sees FULL

    def announce_get(self, begin: int, end: int) -> None:
        """Say that positions begin to end-1 may be claimed by a get of mine."""
        self.words.announce_range(self.get_at, begin, end)  # [G4] as [P3][P4]; pairs with [S2]

    def withdraw_get(self) -> None:
        """Say that no position is claimed by a get of mine."""
        self.words.announce(self.get_at + WORD, 0)  # [G7] release, pairs with [S2]: a scan that sees this sees FREE


class Participants:
    """The records of one segment, seen from this process.

    Args:
        words: an access for setting up; later calls bring their own.
        system: tells which processes live.
    """

    def __init__(self, words: Words, system: System = SYSTEM) -> None:
        self._system = system
        self.forks = processes.forks  # first: a child that is forked from here on finds that these are not its own
        me = system.identity()
        self._namespace = _namespace_number(words, me.namespace)
        self.owner = owner_of(me.pid, me.start, self._namespace)

    # ---- which are alive --------------------------------------------------------------------------------------------

    def is_alive(self, owner: int) -> bool:
        """Whether the process of an owner word lives [S3]; asked anew each time, a verdict is never kept."""
        pid, start, namespace = parse_owner(owner)
        if owner == self.owner or namespace == 0 or namespace != self._namespace:
            return True
        return self._system.is_alive(pid, start)

    def is_dead(self, words: Words, name: int) -> bool:
        """Whether the participant ``name`` is gone: its record is free, abandoned, another's, or its process dead."""
        index, _ = parse_name(name)
        if not 0 <= index < RECORDS:
            return True
        at = record_at(index)
        # [S2] A newcomer has the owner's word before the generation: it passes for the old one for a moment.
        return name_of(index, words.load(at + GENERATION)) != name or self.live_owner(words, at) == 0

    def live_owner(self, words: Words, at: int) -> int:
        """Return the owner word of the record at an offset if a live process is in its operation, otherwise 0."""
        owner = words.load(at + OWNER)
        return owner if owner and not words.load(at + ABANDONED) and self.is_alive(owner) else 0  # [S3] after [S1]

    def pid_of(self, words: Words, name: int) -> int:
        """Return the process id of the participant ``name``; 0 if there is none."""
        return parse_owner(self.owner_word(words, name))[0]

    def owner_word(self, words: Words, name: int) -> int:
        """Return the owner word of the participant ``name``; 0 if there is none."""
        index, _ = parse_name(name)
        return words.load(record_at(index) + OWNER) if 0 <= index < RECORDS else 0

    # ---- scans ------------------------------------------------------------------------------------------------------

    def used(self, words: Words) -> range:
        """Return the indexes that may be in use; read after tail (head), it covers the participant that moved that."""
        return range(min(words.load(RECORDS_USED_AT), RECORDS))

    def covered(self, words: Words, position: int, begin: int, end: int) -> bool:
        """Whether a live participant may be the one that claimed a position.

        The caller has read tail (head) beyond the position before [S1] and reads the slot's word again after [S4].

        Args:
            words: the caller's access.
            position: a claimed position.
            begin: offset of the announcement's begin in a record, PUT_BEGIN or GET_BEGIN.
            end: offset of its end.
        """
        return bool(self.covering(words, position, begin, end))

    def covering(self, words: Words, position: int, begin: int, end: int) -> list[tuple[int, int]]:
        """Return index and owner of every live participant whose announcement covers a position."""
        found = []
        for index in self.used(words):
            at = record_at(index)
            if self._keeps_announcing(words, position, position + 1, at + begin, at + end) == position:
                owner = self.live_owner(words, at)
                if owner:
                    found.append((index, owner))
        return found

    def end_of_uncovered(self, words: Words, position: int, last: int) -> int:
        """Return the first position from one on that a live put may have claimed; as ``covered``, for many at once.

        Args:
            words: the caller's access.
            position: the first position.
            last: one beyond the last, which is returned if no live put covers any; tail was read there or beyond it.
        """
        for index in self.used(words):
            at = record_at(index)
            first = self._keeps_announcing(words, position, last, at + PUT_BEGIN, at + PUT_END)
            if first < last and self.live_owner(words, at):
                last = first
        return last

    def _keeps_announcing(self, words: Words, first: int, last: int, begin: int, end: int) -> int:
        """Return the first position, from first to last-1, that a record announces in each of ``looks`` looks, or last.

        A later look is a later scan.
        """
        stop = last
        for _ in range(self._system.looks):
            # [S2] acquire, each; pairs with [P4][P9][G4][G7]
            first, stop = max(first, words.load(begin)), min(stop, words.load(end))
            if first >= stop:
                return last
        return first

    def taking_the_lock(self, words: Words) -> Iterator[tuple[int, int]]:
        """Yield index and owner of every live participant that is between the two words of the batch lock."""
        for index in self.used(words):
            at = record_at(index)
            if words.load(at + LOCK_BUSY):
                owner = self.live_owner(words, at)
                if owner:
                    yield index, owner

    def another_takes_the_lock(self, words: Words, me: Record) -> bool:
        """Whether a live participant other than me is between the two words of the batch lock."""
        return any(index != me.index for index, _ in self.taking_the_lock(words))

    # ---- taking and leaving -----------------------------------------------------------------------------------------

    def takeable(
        self, words: Words, index: int, resolve: Callable[[Words, int], bool], verdicts: dict[int, bool]
    ) -> int | None:
        """Return the owner word that ``take`` finds if a record is free, or dead with its announcements resolved.

        Args:
            words: the caller's access.
            index: of the record.
            resolve: tells, for the index of a dead record, whether nothing is left of its operation, and does what
                may be done to get there.
            verdicts: which owners were found alive in this scan of the table; an error costs a record, no more.
        """
        owner = words.load(record_at(index) + OWNER)
        if owner and owner not in verdicts:
            verdicts[owner] = self.is_alive(owner)
        return None if owner and (verdicts[owner] or not resolve(words, index)) else owner

    def take(self, words: Words, index: int, owner: int, won: list[int]) -> None:
        """Try to take a record, and append the outcome to ``won``."""
        words.cas_noted(record_at(index) + OWNER, owner, self.owner, won)  # [R1] acq_rel, pairs with [S2][R2]

    def settle(self, words: Words, index: int) -> int:
        """Make a record that was just taken ready for its first announcement; may be called again after an interrupt.

        Returns:
            Its generation.
        """
        at = record_at(index)
        words.store(at + PUT_END, 0)
        words.store(at + GET_END, 0)
        words.store(at + LOCK_BUSY, 0)
        words.store(at + ABANDONED, 0)  # [R2] after the ends: the next announcement comes under a clean flag
        generation = words.load(at + GENERATION) + 1
        words.store(at + GENERATION, generation)
        while (mark := words.load(RECORDS_USED_AT)) < index + 1:  # before the first announcement
            words.cas(RECORDS_USED_AT, mark, index + 1)
        return generation

    def renew(self, record: Record) -> None:
        """Make a record that was abandoned, and is resolved, usable again.

        Under another name: the old one counted as dead, and another operation may be about to take a lock from it.
        """
        words, at = record.words, record.at
        words.store(at + PUT_END, 0)
        words.store(at + GET_END, 0)
        record.place(record.index, words.load(at + GENERATION) + 1)
        words.store(at + GENERATION, record.generation)
        words.store(at + ABANDONED, 0)  # [R2] last: the next announcement comes under a clean flag and a new name

    def generation(self, words: Words, index: int) -> int:
        """Return the generation of a record of this process."""
        return words.load(record_at(index) + GENERATION)

    def leave(self, record: Record, left: list[int]) -> None:
        """Free a record of this process that announces nothing, and append the outcome to ``left``."""
        record.words.store(record.at + LOCK_BUSY, 0)
        record.words.cas_noted(record.at + OWNER, self.owner, 0, left)  # [R2] release, after the ends are 0

    # ---- mode spsc: roles -------------------------------------------------------------------------------------------

    def take_role(self, words: Words, role: int, name: int) -> int:
        """Try to be the one producer (consumer).

        Args:
            words: the caller's access.
            role: offset of the role, PRODUCER_AT or CONSUMER_AT.
            name: of a participant that stays for as long as it has the role.

        Returns:
            The name of the participant that has the role. If it is ``name``, tail (head) is read after this, never
            before.
        """
        # [O1] acquire, pairs with [O2]: tail (head) is not older than what the last producer (consumer) has left.
        holder = words.load(role)
        while holder != name:
            if holder and not self.is_dead(words, holder):
                break
            words.cas(role, holder, name)  # [O1] acq_rel
            holder = words.load(role)  # [O1]
        return holder

    def leave_role(self, words: Words, role: int, name: int) -> None:
        """Be it no longer, if it was. Called while no operation of the role is in progress."""
        words.cas(role, name, 0)  # [O2] release, after the last claim of this role; pairs with [O1]


def _namespace_number(words: Words, identity: int) -> int:
    """Return the number under which the header knows a pid namespace; 0 when it is unknown or the table is full."""
    if identity == 0:
        return 0
    for number in range(NAMESPACES):
        at = NAMESPACES_AT + number * WORD
        if words.load(at) in (0, identity) and (words.cas(at, 0, identity) or words.load(at) == identity):
            return number + 1
    return 0
