"""Workers of a queue with dead letters, and processes that tend these, are killed.

They die while they process an item, while they give one back that becomes a letter, while they look at letters, and
while they end them or put them back. Each item is ended, or is a letter or in the queue at the end; none is lost, and
none is in two places: what was ended comes no more, and no letter is ended twice. See ``harness.diary``.
"""

from __future__ import annotations

from random import Random
from typing import Final

from ..harness.engines import Engines
from ..harness.logs import ENDING, PROCESSING
from ..harness.processes import Worker
from ..harness.rounds import Result, wait_exactly
from .leased import Crew, produce, run_crew, tend, work
from .troubles import some_moment

_MOST_LEASES: Final = 4
_MOST_DELIVERIES: Final = 2
_WAVES: Final = 8
_LONG: Final = 5e-3  # seconds that a victim processes an item, at most
_LAG: Final = 50e-6  # seconds, at most, between what a victim is to be killed in and the kill


def run(seed: str, engine: Engines, patience: float) -> Result:
    """Kill processes at all that they do with items that come back too often.

    Args:
        seed: of the round.
        engine: of all handles, or "mixed".
        patience: seconds within which each wait of a survivor has to end.
    """

    def trouble(crew: Crew) -> None:
        survivors = [crew.start("worker", work, most=crew.rng.randint(1, 2), gives_back=0.3)]
        survivors += [crew.start("producer", produce), crew.start("tender", tend)]
        crew.wait_for_start(survivors, patience)
        for _ in range(_WAVES):
            victims = [_start_victim(crew) for _ in range(crew.rng.randint(1, 3))]
            crew.wait_for_start(victims, patience)
            wait_exactly(some_moment(crew.rng))
            doing = crew.rng.choice((ENDING, ENDING, PROCESSING))
            crew.wait_until(lambda victims=victims, doing=doing: _is_any(victims, doing))  # type: ignore[misc]
            wait_exactly(crew.rng.random() * _LAG)
            crew.kill(victims)

    return run_crew(seed, engine, patience, _MOST_LEASES, trouble, Random(seed).randint(1, _MOST_DELIVERIES))


def _start_victim(crew: Crew) -> Worker:
    if crew.rng.random() < 0.4:
        return crew.start("victim", tend, longest=0)
    longest = crew.rng.choice((0.0, _LONG))
    return crew.start("victim", work, longest=longest, most=crew.rng.randint(1, 3), gives_back=0.8)


def _is_any(victims: list[Worker], doing: int) -> bool:
    return any(one.log.is_doing(doing) for one in victims)
