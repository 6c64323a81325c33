"""Bugs to plant in the engines, and which of the attacks that shaped the protocol each stands for.

The list of ``stress.sanitize`` plants more of them in the algorithm in C, where its own explorer finds them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ..sanitize import Mutation
from .corpus import Engines

_RING: Final = "_ring/ring.py"
_PEOPLE: Final = "_ring/participants.py"
_ENGINE: Final = "_engine/atomics.py"
_ATTEMPT: Final = "_native/attempt.h"


@dataclass(frozen=True, kw_only=True)
class EngineBug(Mutation):
    """A bug in an engine.

    Attributes:
        engines: of the programs under which it is looked for.
        program: the only one of them, where it takes a rare order of steps; empty: all.
    """

    engines: Engines
    program: str


def _bug(file: str, name: str, *replacements: tuple[str, str], program: str = "") -> EngineBug:
    engines: Engines = "native" if file.endswith(".h") else "atomics"
    return EngineBug(name=name, file=file, replacements=replacements, engines=engines, program=program)


BUGS: Final = (
    # ---- put
    _bug(
        _RING,
        "publish from the first slot to the last",
        ("for p in range(position + count - 1, position - 1, -1):", "for p in range(position, position + count):"),
    ),
    _bug(
        _RING,
        "publish before the payload is written",
        (
            "        buffer = self._bytes\n        for place,",
            "        for p in range(position + count - 1, position - 1, -1):\n"
            "            cas(self._slot(p), p << STATE_BITS | FREE, p << STATE_BITS | FULL)\n"
            "        buffer = self._bytes\n        for place,",
        ),
        ("if not cas(slot, p << STATE_BITS | FREE, p << STATE_BITS | FULL):", "if False:"),
    ),
    _bug(
        _RING,
        "announce a put after its claim",
        ("            record.announce_put(position, position + count)  # [P3][P4]\n", ""),
        (
            "            if cas(TAIL, position, position + count):  # [P6] release, pairs with [S1]\n",
            "            if cas(TAIL, position, position + count):\n"
            "                record.announce_put(position, position + count)\n",
        ),
    ),
    _bug(
        _RING,
        "withdraw a put before it is published",
        (
            "        for p in range(position + count - 1, position - 1, -1):\n",
            "        record.withdraw_put()\n        for p in range(position + count - 1, position - 1, -1):\n",
        ),
    ),
    _bug(
        _RING,
        "a put sleeps with its announcement",
        ("                record.withdraw_put()  # before anything slow\n", ""),
    ),
    _bug(
        _RING,
        "batch indexes that wrap",
        ("tag | index << TAG_BITS", "tag | index % 1 << TAG_BITS"),
        (">> TAG_BITS != j:", ">> TAG_BITS != j % 1:"),
    ),
    _bug(
        _RING,
        "nobody but getters frees tombs",
        ("if word == p - capacity << STATE_BITS | TOMB:", "if False:"),
        (
            "        if word == before << STATE_BITS | TOMB or words",
            "        if word == before << STATE_BITS | TOMB:\n            return NOTHING\n        if words",
        ),
    ),
    # ---- get
    _bug(
        _RING,
        "announce a get after its claim",
        ("                record.announce_get(p, end)  # [G4]\n", ""),
        (
            "                claim.begin, claim.end = p, end\n",
            "                record.announce_get(p, end)\n                claim.begin, claim.end = p, end\n",
        ),
    ),
    _bug(
        _RING,
        "withdraw a get before its slots are freed",
        (
            "        count = claim.end - claim.begin\n",
            "        count = claim.end - claim.begin\n        record.withdraw_get()\n",
        ),
    ),
    _bug(
        _RING,
        "nobody looks for an item of the lap before",
        ("if word == p - capacity << STATE_BITS | FULL and self.rescue_get", "if False and self.rescue_get"),
        ("        while (position := self._find_orphan(words)) is not None:", "        while (position := None):"),
    ),
    _bug(
        _RING,
        "say Empty while a put is under way",
        ("                if load(TAIL) == p:", "                if True:"),
    ),
    _bug(
        _RING,
        "adopt by a store",
        (
            "        words.cas_noted(\n"
            "            slot, position << STATE_BITS | FULL, position + self._capacity << STATE_BITS | FREE, "
            "claim.verdict\n        )\n",
            "        words.store(slot, position + self._capacity << STATE_BITS | FREE)\n"
            "        claim.verdict.append(1)\n",
        ),
        program="mpmc 1 1 a:take a:take a:take",
    ),
    # ---- scans and burials
    _bug(_RING, "no second read [S4] before a put is buried", ("if words.load(slot) != free:  # [S4]", "if False:  #")),
    _bug(
        _RING,
        "bury only the first slot of a batch",
        ("reversed(self._published_of_batch(words, position))", "reversed(())"),
    ),
    _bug(
        _RING,
        "bury the first slot of a batch first",
        (
            "        for p in reversed(self._published_of_batch(words, position)):",
            "        words.cas(slot, free, position << STATE_BITS | TOMB)\n"
            "        for p in reversed(self._published_of_batch(words, position)):",
        ),
        program="mpmc 2 0 a:batch a:take a:take",
    ),
    _bug(_PEOPLE, "bury whoever is in the way", ("return bool(self.covering(", "return False and bool(self.covering(")),
    _bug(_PEOPLE, "nobody is ever dead", ("return processes.is_alive(pid, start)", "return True")),
    _bug(
        _PEOPLE,
        "keep the verdict of an earlier scan",
        (
            "        return bool(self.covering(words, position, begin, end))",
            "        self._kept = getattr(self, '_kept', {})\n"
            "        if self._kept.get(begin, True):\n"
            "            self._kept[begin] = bool(self.covering(words, position, begin, end))\n"
            "        return self._kept[begin]",
        ),
        program="mpmc 2 0 a:put a:put a:take",
    ),
    # ---- records
    _bug(
        "_engine/records.py",
        "one record for all threads of a handle",
        ("            _, record = self.idle.popitem()", "            record = self.idle[max(self.idle, default=-1)]"),
    ),
    _bug(
        _PEOPLE,
        "take a dead record that is not resolved",
        ("(verdicts[owner] or not resolve(words, index))", "verdicts[owner]"),
    ),
    _bug(
        _PEOPLE,
        "announce beyond the mark up to which scans go",
        ("while (mark := words.load(RECORDS_USED_AT)) < index + 1:", "while (mark := 0):"),
    ),
    # ---- interrupts
    _bug(
        _RING,
        "publish after abandoning",
        (
            "            words.store(at + ABANDONED, 1)  # [A1] release, pairs with [S2]\n",
            "            words.store(at + ABANDONED, 1)\n"
            "            for p in range(words.load(at + PUT_BEGIN), words.load(at + PUT_END)):\n"
            "                words.cas(self._slot(p), p << STATE_BITS | FREE, p << STATE_BITS | FULL)\n",
        ),
    ),
    _bug(
        _PEOPLE,
        "announce again under the mark",
        ("        words.store(at + ABANDONED, 0)  # [R2] last", "        # [R2] last"),
    ),
    _bug(
        _RING,
        "clean an abandoned record before it is resolved",
        (
            "            if not self.resolve(words, record.index):\n                return False\n",
            "            self.resolve(words, record.index)\n",
        ),
        program="mpmc 2 1 a:take!* a:take",
    ),
    _bug(
        "_engine/records.py",
        "forget what an interrupted get had taken",
        ("        if record.claim.taken:", "        if False:"),
        program="mpmc 2 1 a:take!*+put a:take",
    ),
    # ---- the lock, the gate, roles
    _bug(
        "_ring/batch_lock.py",
        "a lock without an heir",
        ("            left = self._participants.is_dead(words, owner)", "            left = False"),
        ("(owner == 0 or self._participants.is_dead(words, owner)) and words.cas", "owner == 0 and words.cas"),
    ),
    _bug(
        "_ring/batch_lock.py",
        "no inheritance of a lock whose holder died between its two words",
        ("            left = self._flag.is_held() and not", "            left = False and not"),
    ),
    _bug(
        _ENGINE,
        "a gate that a dead batch keeps shut",
        (" and not (sure and self._batch_lock.has_no_live_owner(words))", ""),
    ),
    _bug(
        _PEOPLE,
        "the role of a dead producer goes to nobody",
        ("            if holder and not self.is_dead(words, holder):", "            if holder:"),
    ),
    # ---- waiting
    _bug(
        _ENGINE,
        "no patience with an operation that is about to end",
        ("if found == NOTHING or waited > _PATIENCE:", "if True:"),
    ),
    _bug(
        "_ring/parking.py",
        "read the epoch after arming the hint",
        ("        epoch = words.load(side + WAKE_EPOCH)  # [W1] acquire, before [W2]; pairs with [W5]\n", ""),
        ("                return epoch\n", "                return words.load(side + WAKE_EPOCH)\n"),
        program="mpmc 1 0 a:put+put a:take_wait a:take",
    ),
    _bug(
        _RING,
        "wake before the change",
        ("        self._parking.wake(words, ITEMS, count)\n", ""),
        (
            "        for p in range(position + count - 1, position - 1, -1):\n",
            "        self._parking.wake(words, ITEMS, count)\n"
            "        for p in range(position + count - 1, position - 1, -1):\n",
        ),
    ),
    _bug(
        _RING,
        "no chain of wakes",
        ("                self._parking.wake(words, ITEMS, 1)  # the chain", "                pass  # the chain"),
    ),
    # ---- what only the native engine has
    _bug(
        "_native/ring.h",
        "native: say Full because of a get that has just ended",
        (
            '            return SHMQ_LOAD("S4", &shmq_slot_of(ring, position)->word, memory_order_seq_cst) == word ?',
            "            return true ?",
        ),
        program="mpmc 1 1 n:take n:take n:put",
    ),
    _bug(
        "_native/wait.h",
        "native: no patience with an operation that is about to end",
        ("if (found == SHMQ_NOTHING || waited > PATIENCE) {", "if (true) {"),
    ),
    _bug(
        _ATTEMPT,
        "native: keep the lock after the claim",
        (
            "        shmq_release_lock(ring, me, lock_flag(record));\n"
            "        record->has_lock = false;\n    }\n    for",
            "        record->has_lock = false;\n    }\n    for",
        ),
    ),
    _bug(
        _ATTEMPT,
        "native: say Empty without a look for the items of the dead",
        ("(sure && shmq_find_orphan(ring, &position))", "false"),
    ),
    _bug(
        "_native/participants.h",
        "native: the role of a dead producer goes to nobody",
        ("        if (holder != 0 && !shmq_is_dead(ring, holder)) {", "        if (holder != 0) {"),
    ),
    _bug(
        _ATTEMPT,
        "native: read tail before the role is taken",
        (
            "    struct shmq_participant *me = &record->me;\n    if (take_role(record, record->side) < 0) {",
            "    struct shmq_participant *me = &record->me;\n"
            '    const uint64_t early = SHMQ_LOAD("P1", &ring->header->tail, memory_order_acquire);\n'
            "    if (take_role(record, record->side) < 0) {",
        ),
        (
            "    if (claimed != SHMQ_DONE) {\n        return claimed == SHMQ_CORRUPT",
            "    if (claimed == SHMQ_DONE && ring->spsc && position != early) {\n"
            "        position = early;\n"
            '        SHMQ_STORE("P6", &ring->header->tail, early + record->count, memory_order_release);\n'
            "    }\n"
            "    if (claimed != SHMQ_DONE) {\n        return claimed == SHMQ_CORRUPT",
        ),
        program="spsc 2 1 n:put n:put n:take",
    ),
)

ATTACKS: Final[dict[str, tuple[str, ...]]] = {
    "R1 one record for several operations": ("one record for all threads of a handle",),
    "R2 no rule for an earlier word": (
        "nobody looks for an item of the lap before",
        "no rule for a slot of the lap before",
    ),
    "R3 parked with an announcement": ("a put sleeps with its announcement",),
    "R4 reuse of a record": (
        "take a dead record that is not resolved",
        "keep the verdict of an earlier scan",
        "announce beyond the mark up to which scans go",
        "take the record of a dead put that is not resolved",
    ),
    "R5 abandonment": (
        "publish after abandoning",
        "announce again under the mark",
        "clean an abandoned record before it is resolved",
    ),
    "R6 the lock has no owner": (
        "a lock without an heir",
        "no inheritance of a lock whose holder died between its two words",
        "clean an abandoned record and let it keep its name",
    ),
    "R7 mode spsc": (
        "native: read tail before the role is taken",
        "the role of a dead producer goes to nobody",
        "native: the role of a dead producer goes to nobody",
        "take the role of a live producer",
    ),
    "R8 who has the item": ("adopt by a store", "withdraw a get before its slots are freed"),
    "R10 free by a plain store": ("free a claimed slot by a store", "wake before the change"),
    "R11 a stranded wake": ("no chain of wakes",),
    "R12 full for ever on an empty queue": ("nobody but getters frees tombs",),
    "R13 the gate": ("a gate that a dead batch keeps shut",),
    "R14 orders that x86 gives": ("publish relaxed [P8]", "see FULL relaxed [G2]", "free relaxed [G6]"),
    "R16 Full during a get": (
        "no patience with an operation that is about to end",
        "native: no patience with an operation that is about to end",
    ),
    "R22 the batch index wraps": ("batch indexes that wrap",),
}
"""Every attack that can be planted, and the bugs of both lists that stand for it.

R9 (creation) and R18 (unlink) are about names, R15 about fork, R19 about a full table, R20 and R21 about the end of a
process: those are tests of whole processes. R17 is a sentence of the guarantees.
"""
