"""An atomics engine that dies at a chosen atomic step of an operation."""

from __future__ import annotations

from collections.abc import Callable

from shared_multiprocess_queue._engine import lifecycle
from shared_multiprocess_queue._engine.atomics import AtomicsEngine
from shared_multiprocess_queue._platform import atomic_words
from stress import mortal

Operation = Callable[[AtomicsEngine], object]


def dies(name: str, run_id: str, operation: Operation, steps: int) -> bool:
    """Run an operation in a child that is killed before its step number ``steps``; see ``stress.mortal.dies``."""
    fate = mortal.Fate()

    def prepare() -> Callable[[], object]:
        segment, geometry, flag = lifecycle.attach(name, run_id)
        memory = mortal.MortalMemory(atomic_words.open_words(segment.buffer), fate)
        engine = AtomicsEngine(segment, geometry, mortal.MortalFlag(flag, fate), memory)  # type: ignore[arg-type]
        with engine.operation():
            pass
        return lambda: operation(engine)

    return mortal.dies(prepare, fate, steps)
