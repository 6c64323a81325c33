"""One program: a queue that is set up once, and then run under one schedule after the other."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from shared_multiprocess_queue._ring import ending, layout
from shared_multiprocess_queue.errors import ShutDown

from .bells import Kernel
from .handles import Handle
from .interrupts import interrupted
from .memory import Memory
from .program import JOIN, PUTS, Program, Schedule, item_named, slots_of
from .scheduler import Actor, Fork, Scheduler, Violation
from .verdict import Call, History, judge

_SINGLE_PUTS = ("put_wait", "put_bell", "put_await")
_GHOST = 99  # a process id
_SURVIVOR = 100
FIRST = 101
"""Process id of the first actor."""


class World:
    """A program, ready to run; made by ``worlds.open_world``."""

    def __init__(self, program: Program, scheduler: Scheduler, dead: set[int], kernel: Kernel) -> None:
        self.program = program
        self.scheduler = scheduler
        self._dead = dead
        self._kernel = kernel
        self._may_be_late = False  # whether a death may have cost a wake
        self._memory = Memory(
            program.capacity,
            program.mode,
            program.leases,
            program.is_fresh,
            program.has_large,
            program.max_deliveries,
        )
        self._survivor = self._handle(program.actors[-1].engine, _SURVIVOR)
        self._filled = [item_named(f"f{i}", 2 if program.has_large and i == 0 else 1) for i in range(program.filled)]
        if not program.is_fresh:
            self._pass_a_lap()  # so that there is a lap before
        for item in self._filled:
            self._survivor.call("put", [item])
        self._leave_roles()
        if program.has_orphan:
            self._claim_and_die()
        self._saved = self._memory.save()
        self._processes: list[int] = []
        for number, plan in enumerate(program.actors):
            self._processes.append(self._processes[-1] if plan.is_thread else number)
        scheduler.on_death = self._die
        scheduler.on_stall = self._stall

    def run(self, schedule: Schedule) -> list[Fork]:
        """Run the program once.

        Returns:
            The moments, since the last decision, at which something else might have happened.

        Raises:
            Violation: a rule was broken.
        """
        self._memory.restore(self._saved)
        self._dead.clear()
        self._kernel.clear()
        self._may_be_late = self.program.has_orphan
        if self.program.has_orphan:
            self._dead.add(_GHOST)
        self._history = History(self.program.capacity, self._filled)
        self._begin()
        self._handles = {
            i: self._open(i)
            for i, plan in enumerate(self.program.actors)
            if plan.steps[0].call != JOIN and not plan.is_thread
        }
        actors = [Actor(i, process, self._body(i)) for i, process in enumerate(self._processes)]
        self._actors = actors
        try:
            self.scheduler.run(actors, schedule)
            forks = self.scheduler.forks
            self._look_afterwards()
        finally:
            self.scheduler.run_out()
        return forks

    def _open(self, number: int) -> Handle:
        return self._handle(self.program.actors[number].engine, FIRST + number)

    def _handle(self, engine: str, pid: int) -> Handle:
        return Handle(engine, self._memory, self.scheduler, pid, self._dead, self._kernel)

    def _begin(self) -> None:
        """Be told that a run begins."""

    def _call(self, call: Call) -> None:
        """Make a call of an actor."""
        call.answer = self._handles[self._processes[call.actor]].call(call.name, call.items)

    def story(self) -> str:
        """Tell what happened in the last run."""
        lines = []
        for call in self._history.calls:
            ended = "never" if call.ended is None else call.ended
            lines.append(f"{call.actor}: {call.name}({', '.join(call.items)}) {call.began} to {ended}: {call.answer}")
        return "\n            ".join([*lines, f"kept back {self._history.kept}, left {self._history.rest}"])

    def _body(self, number: int) -> Callable[[], None]:
        def run() -> None:
            for i, step in enumerate(self.program.actors[number].steps):
                if step.call == JOIN:
                    self._handles[number] = self._open(number)
                    continue
                items = [
                    item_named(f"{'abcdefgh'[number]}{i}.{j}", slots) for j, slots in enumerate(PUTS.get(step.call, ()))
                ]
                call = Call(number, step.call, items, self.scheduler.count)
                self._history.calls.append(call)
                try:
                    with interrupted(step.interrupt):
                        self._call(call)
                except ShutDown:
                    call.is_refused = True
                except KeyboardInterrupt:
                    call.answer = self._handles[self._processes[number]].shown
                    continue
                call.ended = self.scheduler.count

        return run

    def _die(self, process: int) -> None:
        self._dead.add(FIRST + process)
        self._kernel.end_process(process)
        mine = [actor for actor in self._actors if actor.process == process]
        if any(actor.sleeps_on is None and not actor.is_done for actor in mine) or self._waits_with_lock(mine):
            self._may_be_late = True
        for call in self._history.calls:
            if self._processes[call.actor] == process and call.ended is None:
                call.held = self._memory.held()

    def _stall(self) -> None:
        """No actor can move: then no sleeper may have anything to wake up for, unless its waker died.

        An actor that dies asleep, and was not woken, costs no other a wake.
        """
        if self._may_be_late:
            return
        for actor in self._actors:
            if actor.sleeps_on is None:
                continue
            call = next(call for call in reversed(self._history.calls) if call.actor == actor.number)
            if self._waits_for_role(actor, call):
                continue
            waits_for_turn = (
                actor.sleeps_on == self._memory.address + layout.BATCH_OWNER_AT
            )  # its holder may be about to go
            if self._is_closed() and not waits_for_turn and not self._may_sleep_at_the_end(call):
                raise Violation(f"a {call.name} sleeps though the queue was shut down: the wake was lost")
            words = self._memory.words
            head, tail = words[layout.HEAD >> 3], words[layout.TAIL >> 3]
            if call.is_take and words[self._memory.slot(head) >> 3] == head << layout.STATE_BITS | layout.FULL:
                raise Violation(f"a {call.name} sleeps beside an item: the wake was lost")
            is_free = words[self._memory.slot(tail) >> 3] == tail << layout.STATE_BITS | layout.FREE
            if call.name in _SINGLE_PUTS and is_free and not words[layout.GATE_AT >> 3]:
                raise Violation("a put sleeps beside a free slot: the wake was lost")
            if call.name == "batch_await" and not words[layout.BATCH_OWNER_AT >> 3] and not any(self._memory.lock):
                raise Violation("a batch sleeps beside a lock that is free: the wake was lost")

    def _waits_for_role(self, actor: Actor, call: Call) -> bool:
        """Whether another process has the role that a call needs, so that it sleeps between its tries to take it."""
        words = self._memory.words
        role = words[(layout.CONSUMER_AT if call.is_take else layout.PRODUCER_AT) >> 3]
        if not role:
            return False
        owner = words[layout.record_at(layout.parse_name(role)[0]) + layout.OWNER >> 3]
        return layout.parse_owner(owner)[0] != FIRST + actor.process

    def _waits_with_lock(self, actors: list[Actor]) -> bool:
        """Whether one of some actors is a batch, which may have the lock."""
        return any(
            call.name.startswith("batch") and call.ended is None
            for actor in actors
            for call in self._history.calls
            if call.actor == actor.number
        )

    def _is_closed(self) -> bool:
        return ending.is_closed(self._survivor.engine.membership.look())

    def _may_sleep_at_the_end(self, call: Call) -> bool:
        """Whether a get may have been under way, for which a get waits at the end without the promise of a wake."""
        return not call.is_put and any(other.is_take for other in self._history.calls if other is not call)

    # ---- afterwards -------------------------------------------------------------------------------------------------

    def _look_afterwards(self) -> None:
        history = self._history
        for number, handle in self._handles.items():
            if FIRST + number in self._dead:
                continue
            history.kept += self._taken_back(handle)
            if self.program.mode == "spsc":
                handle.engine.membership.close(wait=True)
        if self._is_closed():
            self._look_at_the_end()
            judge(history)
            return
        self._probe_if_empty()
        history.rest = self._drain()
        if left := self._memory.held():
            raise Violation(f"Empty was said and there was {', '.join(left)}")
        judge(history)
        self._pass_a_lap()
        self._pass_a_lap()

    def _taken_back(self, handle: Handle) -> list[str]:
        """Take what a handle has kept back from interrupted gets, unless an immediate shutdown has dropped it."""
        found: list[str] = []
        with suppress(ShutDown):
            while handle.engine.membership.kept_back():
                taken = handle.call("take", [])
                found += taken if isinstance(taken, list) else []
        return found

    def _look_at_the_end(self) -> None:
        """See that a queue that was shut down takes nothing, gives what is left, and says so."""
        try:
            if self._survivor.call("put", ["late"]) is not False:
                raise Violation("a put was not refused after all had ended")
        except ShutDown:
            pass
        try:
            while isinstance(taken := self._survivor.call("take", []), list):
                self._history.rest += taken
        except ShutDown:
            return
        raise Violation("a get did not find the end after all had ended")

    def _probe_if_empty(self) -> None:
        """See that a queue without items takes one, though no getter has passed what the dead have left."""
        if not self._memory.held():
            if not self._survivor.call("put", ["probe"]):
                raise Violation("full without an item")
            if self._survivor.call("take", []) != ["probe"]:
                raise Violation("what an empty queue took is not what it gives")

    def _drain(self) -> list[str]:
        found: list[str] = []
        while isinstance(taken := self._survivor.call("take", []), list):
            found += taken
        return found

    def _pass_a_lap(self) -> None:
        """See that an empty queue takes what it can hold, no more, and gives it back."""
        call, capacity = self._survivor.call, self.program.capacity
        items = [f"z{i}" for i in range(capacity)]
        first = min(2, capacity)
        if call("is_empty", []) is not True:
            raise Violation("not empty after all was taken")
        if not call("batch" if first > 1 else "put", items[:first]):
            raise Violation("an empty queue takes no batch")
        for item in items[first:]:
            if not call("put", [item]):
                raise Violation("an empty queue does not take its capacity")
        if call("is_full", []) is not True or call("put", ["more"]) is not None:
            raise Violation("a full queue takes more than its capacity")
        if (found := self._drain()) != items:
            raise Violation(f"a queue took {items} and gave {found}")

    def _claim_and_die(self) -> None:
        """Leave the first item as a get does that dies right after its claim."""
        record = self._handle("atomics", _GHOST).engine.membership.records.borrow()
        head = record.words.load(layout.HEAD)
        end = head + slots_of(self._filled[0])
        record.announce_get(head, end)
        record.words.cas(layout.HEAD, head, end)

    def _leave_roles(self) -> None:
        """Let others be the producer and the consumer."""
        if self.program.mode == "spsc":
            self._survivor.engine.membership.retire()
