"""An atomics engine that dies at a chosen atomic step of an operation."""

from __future__ import annotations

from collections.abc import Callable

from shared_multiprocess_queue._engine import lifecycle
from shared_multiprocess_queue._engine.atomics import AtomicsEngine
from shared_multiprocess_queue._engine.membership import Membership
from shared_multiprocess_queue._platform import atomic_words
from stress.harness import dying

Operation = Callable[[AtomicsEngine], object]


def dies(name: str, run_id: str, operation: Operation, steps: int, counts_loads: bool = True) -> bool:
    """Run an operation in a child that is killed before its step number ``steps``; see ``stress.harness.dying``."""
    fate = dying.Fate(counts_loads)

    def prepare() -> Callable[[], object]:
        segment, geometry, flag = lifecycle.attach(name, run_id)
        memory = dying.DyingMemory(atomic_words.open_words(segment.buffer), fate)
        engine = AtomicsEngine(Membership(segment, geometry, dying.DyingFlag(flag, fate), memory))  # type: ignore[arg-type]
        with engine.membership.operation():
            pass
        return lambda: operation(engine)

    return dying.dies(prepare, fate, steps)
