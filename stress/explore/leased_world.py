"""Programs on a queue with leases: what their calls do, and the rules that these keep.

Checked before each step: L1, a slot that has gone to a lease slot names one that is held and knows its position; L3, no
two lease slots have the item of one position. Checked where an actor waits, scans or ends a call: L4, it holds no empty
lease slot. Checked at each hand-out, and at the end: no process has an item while a live one has it, or after its end;
each accepted item is ended once; the deliveries that are told are those that were, and one more for each loss at most;
a join returns only if nothing was left to end at a moment of it. After a shutdown: once a get of a process that has no
item has found the end, and once a join has returned after an immediate one, nothing is handed out; a get that sleeps
waits for a lease.

Of dead letters: a dead slot that names a lease slot names one that is held and knows of it; no two dead slots, and no
dead slot and a lease slot, have the item of one position; no item is delivered more often than it may be, unless there
was no room for a letter. What was put back counts as left, for joins and for the end.

Here it is always time to look for the dead, because the time of the next look is taken back before each step and each
get: otherwise each look would need a jump of time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

from shared_multiprocess_queue._engine.atomics import AtomicsEngine
from shared_multiprocess_queue._engine.calls import Operations
from shared_multiprocess_queue._engine.leased_calls import LeasedCalls
from shared_multiprocess_queue._ring import layout
from shared_multiprocess_queue._ring.claim import Held, Home, Payload, held_by
from shared_multiprocess_queue._ring.dead_letters import Letter
from shared_multiprocess_queue.errors import ShutDown

from .handles import PATIENCE, Handle
from .program import ENDS, LEASE_ENDS, LEASES, LETTERS, PUTS, QUIETS, TAKES
from .scheduler import Violation
from .verdict import Call, judge_end
from .world import FIRST, World

Given = tuple[str, int]
"""An item that was handed out, and its deliveries."""


class Ledger:
    """Which items were accepted, which process has them, and which are ended.

    Args:
        filled: the items that are there at the start.
        dead: process ids.
    """

    def __init__(self, filled: list[str], dead: set[int]) -> None:
        self.accepted = set(filled)
        self._dead = dead
        self._known = set(filled)
        self._refused: set[str] = set()
        self._handed: Counter[str] = Counter()
        self._holder: dict[str, int] = {}
        self._ended: set[str] = set()
        self.may_be_ended: set[str] = set()
        self.offered: set[str] = set()  # letters that were put back, perhaps: their deliveries begin anew
        self.losses = 0
        self.is_over = False  # nothing can come any more

    def put(self, items: list[str]) -> None:
        self._known.update(items)

    def answered(self, items: list[str], is_accepted: bool) -> None:
        (self.accepted if is_accepted else self._refused).update(items)

    def handed_out(self, pid: int, given: list[Given]) -> None:
        for item, deliveries in given:
            if self.is_over:
                raise Violation(f"handed out after the end: {item}")
            if item not in self._known or item in self._refused:
                raise Violation(f"handed out, and not put: {item}")
            if item in self._ended:
                raise Violation(f"handed out after its end: {item}")
            holder = self._holder.get(item)
            if holder is not None and holder not in self._dead:
                raise Violation(f"handed out while a live process has it: {item}")
            self._handed[item] += 1
            most = self._handed[item] + self.losses
            if not (deliveries if item in self.offered else self._handed[item]) <= deliveries <= most:
                raise Violation(f"{item} was handed out for the {self._handed[item]}. time and told {deliveries}")
            self._holder[item] = pid
            self.may_be_ended.discard(item)

    def gives_up(self, item: str) -> None:
        self._holder.pop(item, None)

    def ended(self, item: str) -> None:
        if item in self._ended:
            raise Violation(f"ended twice: {item}")
        self._holder.pop(item, None)
        self._ended.add(item)

    def close(self) -> None:
        """Judge, when all that is left was handed out and ended."""
        lost = self.accepted - self._ended - self.may_be_ended
        if lost:
            raise Violation(f"never ended, and lost: {', '.join(sorted(lost))}")


class LeasedHandle(Handle):
    """One handle of a queue with leases.

    Attributes:
        pid: of its process.
        leased: the leases whose items its callers have, and the items.
    """

    def __init__(self, engine: str, memory: Any, scheduler: Any, pid: int, dead: set[int]) -> None:
        super().__init__(engine, memory, scheduler, pid, dead)
        self.pid = pid
        self._memory = memory
        self.leased: dict[Held, str] = {}
        self.ledger = Ledger([], dead)
        member = self.engine.membership
        self.owner = member.participants.owner
        self._calls = (
            self._direct if engine == "native" else LeasedCalls(cast(AtomicsEngine, self.engine), cast(Any, None))
        )
        self._gets: Operations = self._calls._engine

    def call(self, name: str, items: list[str]) -> list[str] | bool | None:
        ledger = self.ledger
        if name in PUTS:
            ledger.put(items)
            try:
                answer = super().call(name, items)
            except ShutDown:
                ledger.answered(items, False)
                raise
            ledger.answered(items, bool(answer))
            return answer
        if name in ENDS:
            return super().call(name, items)
        if name in LEASE_ENDS:
            return self._end(name)
        if name in LETTERS:
            return self.move_letter(name)
        if name in QUIETS:
            return self._calls.join_until(self._scheduler.now + PATIENCE if name == "quiet_wait" else 0)
        answer = super().call(name.replace("lease", "take"), items)
        if name in TAKES and isinstance(answer, list):
            for held in list(self.leased)[-len(answer) :]:
                self._done(held)
        return answer

    def _take(self, limit: int, waits: bool) -> list[bytes]:
        until = self._scheduler.now + PATIENCE if waits else 0
        self._memory.words[layout.LOOK_AT >> 3] = 0
        given: list[tuple[Held, str]] = self._gets.get(limit, until, _deliver, self.home())
        self.ledger.handed_out(self.pid, [(item, held.deliveries) for held, item in given])
        most = self._memory.geometry.max_deliveries
        was_refused = self._memory.words[layout.DEAD_LETTERS_REFUSED_AT >> 3]
        if most and not was_refused and any(held.deliveries > most for held, _ in given):
            raise Violation(f"delivered more often than it may be: {given}")
        self.leased.update(given)
        return [item.encode() for _, item in given]

    def home(self) -> Home:
        """Return where leases are noted."""
        leasing = self.engine.membership.leasing
        assert leasing is not None
        return leasing.of_objects

    def _end(self, name: str) -> bool | None:
        held = next(iter(self.leased), None)
        if held is None:
            return None
        if name == "done":
            self._done(held)
            return True
        leasing = self.engine.membership.leasing
        assert leasing is not None
        self.ledger.gives_up(self.leased.pop(held))
        leasing.give_back(self.home(), held, last=name == "last")
        return True

    def move_letter(self, name: str) -> bool | None:
        """Put the first dead letter back, or end it; None: there is none."""
        member, ledger = self.engine.membership, self.ledger
        with member.operation() as record:
            assert member.ring.leases is not None
            dead = member.ring.leases.dead_letters
            assert dead is not None
            letters = member.ring.leases.letters(record.words, record.claim)
            if not letters:
                return None
            item = letters[0].payload[0].decode()
            if name == "put_back":
                ledger.offered.add(item)
                outcome = dead.put_back(record.words, letters[0])
            else:
                ledger.may_be_ended.add(item)
                outcome = dead.drop(record.words, letters[0])
                if outcome:
                    ledger.ended(item)
                else:
                    ledger.may_be_ended.discard(item)
        if isinstance(outcome, Letter):
            raise ShutDown
        return outcome

    def _done(self, held: Held) -> None:
        leasing = self.engine.membership.leasing
        assert leasing is not None
        item = self.leased.pop(held)
        self.ledger.may_be_ended.add(item)
        leasing.done(self.home(), held)
        self.ledger.ended(item)

    def find_again(self) -> None:
        """Note the leases whose end was interrupted, and has not happened."""
        for held in self.home():
            if held not in self.leased:
                self.ledger.may_be_ended.discard(self.text(held))
                self.leased[held] = self.text(held)

    def text(self, held: Held) -> str:
        """Return the item of a lease."""
        ring = self.engine.membership.ring
        assert ring.leases is not None
        text: str = ring.leases._read(held)[0].decode()
        return text


def _deliver(taken: list[Payload]) -> Any:
    return [(held_by(payload), payload[0].decode()) for payload in taken]


class LeasedWorld(World):
    """A program on a queue with leases, ready to run."""

    def _handle(self, engine: str, pid: int) -> LeasedHandle:
        return LeasedHandle(engine, self._memory, self.scheduler, pid, self._dead)

    def _begin(self) -> None:
        self._ledger = Ledger(self._filled, self._dead)
        self._joins: dict[int, bool] = {}  # of the last join of an actor: whether nothing was left at a moment of it
        cast(LeasedHandle, self._survivor).ledger = self._ledger
        self._broken: Violation | None = None
        self.scheduler.on_step = lambda: self._note_what_breaks(self._check_words)
        self.scheduler.on_wait = lambda: self._note_what_breaks(self._check_reserved)

    def _note_what_breaks(self, check: Callable[[], None]) -> None:
        """Check; what is found is raised after the run, because C cannot raise it in the middle of a step."""
        if self._broken is None:
            try:
                check()
            except Violation as violation:
                self._broken = violation

    def _call(self, call: Call) -> None:
        handle = cast(LeasedHandle, self._handles[self._processes[call.actor]])
        handle.ledger = self._ledger
        if call.name in QUIETS:
            self._joins[call.actor] = False
            self._look_for_quiet()
        try:
            call.answer = handle.call(call.name, call.items)
        except KeyboardInterrupt:
            self._ledger.losses += 1
            handle.find_again()
            raise
        except ShutDown:
            if not (call.is_put or self._has_item(handle) or self._is_stopped()):
                self._ledger.is_over = True
                if left := self._memory.held():
                    raise Violation(f"left after a get had found the end: {', '.join(left)}") from None
            self._check_reserved()
            raise
        if call.name in QUIETS and call.answer:
            self._look_for_quiet()
            if not self._joins[call.actor]:
                raise Violation(f"a join returned, and at no moment of it there was nothing left: {self._left()}")
            if self._is_stopped():
                self._ledger.is_over = True
        self._check_reserved()

    def _die(self, process: int) -> None:
        super()._die(process)
        self._ledger.losses += 1

    # ---- invariants -------------------------------------------------------------------------------------------------

    def _word(self, at: int) -> int:
        return self._memory.words[at >> 3]

    def _heads(self) -> list[int]:
        return [self._memory.lease_head(index) for index in range(self.program.leases)]

    def _has_item(self, handle: Handle) -> bool:
        """Whether the process of a handle has leased an item."""
        owner = cast(LeasedHandle, handle).owner
        return any(
            self._word(at) == owner == self._word(at + layout.LEASE_DUE) and self._word(at + layout.LEASE_COUNT)
            for at in self._heads()
        )

    def _is_stopped(self) -> bool:
        return bool(self._word(layout.stop_word(self.program.mode)) & layout.STOPPED)

    def _check_words(self) -> None:
        memory, heads = self._memory, self._heads()
        memory.words[layout.LOOK_AT >> 3] = 0
        self._look_for_quiet()
        ready = self._word(layout.LEASES_READY_AT) or len(heads)
        if any(self._word(head) or self._word(head + layout.LEASE_COUNT) for head in heads[ready:]):
            raise Violation("a lease slot is in use that is not among those that have memory")
        full = [self._word(head + layout.LEASE_POSITION) for head in heads if self._word(head + layout.LEASE_COUNT)]
        if len(set(full)) < len(full):
            raise Violation(f"two lease slots have the item of one position: {full}")
        for index in range(self.program.capacity):
            word = self._word(memory.slot(index))
            if word & layout.STATE_MASK == layout.GIVEN:
                head = heads[word >> layout.GIVEN_LEASE_SHIFT]
                if not self._word(head) or not layout.is_given(word, self._word(head + layout.LEASE_POSITION)):
                    raise Violation("a slot names a lease slot that is free, or that has another position")

        self._check_dead_slots()

    def _check_dead_slots(self) -> None:
        memory, heads = self._memory, self._heads()
        here = []
        for index, state in enumerate(memory.dead_states()):
            word = self._word(memory.dead_head(index))
            for lease, head in enumerate(heads):
                knows = self._word(head) and self._word(head + layout.LEASE_LINK) == index + 1
                if layout.names_lease(word, lease) and not knows:
                    raise Violation("a dead slot names a lease slot that is free, or that does not know of it")
            if state in (layout.DEAD_BURIED, layout.DEAD_LETTER, layout.DEAD_OFFERED, layout.DEAD_PUT_BACK):
                here.append(self._word(memory.dead_head(index) + layout.DEAD_POSITION))
        here += [
            self._word(head + layout.LEASE_POSITION)
            for lease, head in enumerate(heads)
            if self._word(head + layout.LEASE_COUNT) and not memory.is_buried(lease)
        ]
        if len(set(here)) < len(here):
            raise Violation(f"an item lies in two places: {here}")

    def _check_reserved(self) -> None:
        """The process of the running actor holds no empty lease slot."""
        actor = self.scheduler.current
        if actor is None or self._processes.count(actor.process) > 1:  # another thread may be in the middle of a call
            return
        handle = cast(LeasedHandle, self._handles[actor.process])
        for index in range(self.program.leases):
            head = self._memory.lease_head(index)
            if self._word(head) == handle.owner and not self._word(head + layout.LEASE_COUNT):
                raise Violation("an empty lease slot is held where its process waits, scans or is not in a call")

    def _look_for_quiet(self) -> None:
        """Note for each join whether all that was put is ended now."""
        if not all(self._joins.values()) and not self._left():
            self._joins = dict.fromkeys(self._joins, True)

    def _left(self) -> list[str]:
        """Return what is not ended, in words."""
        if self._is_stopped():
            return ["a lease slot of a live process"] if self._is_any_held() else []
        memory = self._memory
        left = memory.held()
        left += [f"slot {index}, given" for index in range(self.program.capacity) if self._is_given(index)]
        for position in range(layout.unmarked(self._word(layout.HEAD)), layout.unmarked(self._word(layout.TAIL))):
            if self._word(memory.slot(position)) == position << layout.STATE_BITS | layout.FREE:
                left.append(f"a put at {position}")
        return left

    def _is_given(self, index: int) -> bool:
        return self._word(self._memory.slot(index)) & layout.STATE_MASK == layout.GIVEN

    def _is_any_held(self) -> bool:
        """Whether a live process holds a lease slot."""
        live = {
            cast(LeasedHandle, handle).owner
            for number, handle in self._handles.items()
            if FIRST + number not in self._dead
        }
        return any(self._word(at) in live for at in self._heads())

    def _may_sleep_at_the_end(self, call: Call) -> bool:
        if call.name in QUIETS:
            return True
        process = self._processes[call.actor]
        if call.is_put or (self._processes.count(process) == 1 and self._has_item(self._handles[process])):
            return False  # a process that has an item waits for no other
        return self._is_any_put_back() or any(
            self._word(at) or self._word(at + layout.LEASE_COUNT) for at in self._heads()
        )

    def _is_any_put_back(self) -> bool:
        return not {layout.DEAD_OFFERED, layout.DEAD_PUT_BACK, layout.DEAD_GIVEN}.isdisjoint(self._memory.dead_states())

    def _stall(self) -> None:
        super()._stall()
        if self._dead:
            return
        for actor in self._actors:
            if actor.sleeps_on is None:
                continue
            call = next(call for call in reversed(self._history.calls) if call.actor == actor.number)
            is_quiet = not self._is_any_held() if self._is_stopped() else not self._memory.held()
            if call.name == "quiet_wait" and is_quiet:
                raise Violation("a join sleeps though all is ended: the wake was lost")
            if call.name not in LEASES:
                continue
            head = layout.unmarked(self._word(layout.HEAD))
            is_full = self._word(self._memory.slot(head)) == head << layout.STATE_BITS | layout.FULL
            states = [
                (self._word(at), self._word(at + layout.LEASE_COUNT))
                for at in map(self._memory.lease_head, range(self.program.leases))
            ]
            if is_full and (0, 0) in states:
                raise Violation("a get sleeps beside an item and a lease slot: the wake was lost")
            if self._is_any_put_back() and (0, 0) in states:
                raise Violation("a get sleeps beside an item that was put back and a lease slot: the wake was lost")
            if any(not holder and count for holder, count in states):
                raise Violation("a get sleeps beside an item that came back: the wake was lost")

    # ---- afterwards -------------------------------------------------------------------------------------------------

    def _look_afterwards(self) -> None:
        if self._broken is not None:
            raise self._broken
        for number, handle in self._handles.items():
            if FIRST + number in self._dead:
                continue
            mine = cast(LeasedHandle, handle)
            for held in list(mine.leased):
                mine._done(held)
            with suppress(ShutDown):
                while mine.engine.membership.kept_back():
                    mine.call("take", [])
            leasing = mine.engine.membership.leasing
            assert leasing is not None
            leasing.drop_kept_back()
            if self.program.mode == "spsc":
                mine.engine.membership.close(wait=True)
        if self._is_closed():
            self._look_at_the_end()
            judge_end(self._history)
        else:
            self._drain()
        if self.program.max_deliveries:
            self._end_letters()
        if not self._survivor.call("quiet", []):
            raise Violation("a join does not return though nothing is left")
        if self._is_stopped():
            return
        if left := self._memory.held():
            raise Violation(f"Empty was said and there was {', '.join(left)}")
        self._ledger.close()
        for head in map(self._memory.lease_head, range(self.program.leases)):
            if self._word(head) or self._word(head + layout.LEASE_COUNT):
                raise Violation("a lease slot is held though nothing is left")
        if self._is_closed():
            return
        self._pass_a_lap()
        self._pass_a_lap()

    def _end_letters(self) -> None:
        """Deliver each letter once more, or, if the queue was shut down, drop it; then none may be left."""
        survivor = cast(LeasedHandle, self._survivor)
        while survivor.move_letter("drop" if self._is_closed() else "put_back"):
            pass
        if not self._is_closed():
            self._drain()
        if any(self._memory.dead_states()) and not self._is_stopped():
            raise Violation(f"a dead slot stays taken: {self._memory.dead_states()}")

    def _pass_a_lap(self) -> None:
        cast(LeasedHandle, self._survivor).ledger = Ledger([], self._dead)  # the items have the names of the last lap
        super()._pass_a_lap()
