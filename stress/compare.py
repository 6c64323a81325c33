"""How many times as fast this package is as the release before the rewrite, shared-multiprocess-queue 0.1.5.

Both are measured in one run, in turn (A B A B ...), each time in processes of their own, because both packages have the
same import name: where a process imports from is decided by its PYTHONPATH.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import IO, Final

from rich.console import Console
from rich.table import Table

import shared_multiprocess_queue

from .crew import left_behind, new_prefix

PEER: Final = "0.1.5"
_REQUIREMENTS: Final = (f"shared-multiprocess-queue=={PEER}", "shared-memory-lock==0.1.5")
_WORKER: Final = Path(__file__).with_name("peer_worker.py")
_PATIENCE: Final = 300  # seconds for one measurement


class MeasurementError(Exception):
    """A measurement did not come to its end; the message has what its process wrote."""


@dataclass(frozen=True)
class Side:
    """A package to measure.

    Attributes:
        name: for the table.
        path: folder that it is imported from.
        engine: for SHMQ_ENGINE; the peer knows no such thing.
    """

    name: str
    path: Path
    engine: str


@dataclass
class Measured:
    """Items a second, one number for each repeat.

    Attributes:
        ours: of this package.
        peer: of the peer.
    """

    ours: list[float] = field(default_factory=list)
    peer: list[float] = field(default_factory=list)

    @property
    def ratios(self) -> list[float]:
        """How many times as fast as the peer, for each repeat."""
        return [a / b for a, b in zip(self.ours, self.peer, strict=True)]


@contextmanager
def peer_folder(given: Path | None) -> Iterator[Path]:
    """Give the folder that has the peer; without one, install it into a temporary folder."""
    if given is not None:
        if not (given / "shared_multiprocess_queue").is_dir():
            install(given)
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="stress-peer-") as folder:
        install(Path(folder))
        yield Path(folder)


def install(folder: Path) -> None:
    """Install the peer into a folder; its own requirement of a newer Python is not about this use of it."""
    options = ["--quiet", "--no-deps", "--ignore-requires-python", "--target", str(folder)]
    command = [sys.executable, "-m", "pip", "install", *options, *_REQUIREMENTS]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MeasurementError(f"{' and '.join(_REQUIREMENTS)} cannot be installed:\n{done.stderr}")


# ---- one measurement ------------------------------------------------------------------------------------------------


def _cores() -> tuple[int, int]:
    """Return a core for each of two processes; -1 where there are not two to choose from."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return (cores[0], cores[1]) if len(cores) > 1 else (-1, -1)


def _start(side: Side, what: str, core: int, items: int, run_id: str, errors: IO[str]) -> subprocess.Popen[str]:
    command = [sys.executable, str(_WORKER), what, str(core), str(items), run_id]
    environment = dict(os.environ, PYTHONPATH=str(side.path), SHMQ_ENGINE=side.engine)
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True)


def _result(side: Side, process: subprocess.Popen[str], errors: IO[str]) -> float:
    """Return the seconds that a process measured."""
    output, _ = process.communicate(timeout=_PATIENCE)
    if process.returncode:
        errors.seek(0)
        raise MeasurementError(f"measuring {side.name} ended with exit code {process.returncode}:\n{errors.read()}")
    result = json.loads(output.splitlines()[-1])
    if Path(result["package"]).resolve().parents[1] != side.path.resolve():
        raise MeasurementError(f"measuring {side.name} imported {result['package']}, which is not in {side.path}")
    return float(result["seconds"])


@contextmanager
def _processes() -> Iterator[tuple[list[subprocess.Popen[str]], IO[str]]]:
    """Give a list for processes, which are ended here at the latest, and a file for what they write to stderr.

    The resource trackers of the peer's processes each remove what the others use, and complain; that is only worth
    reading if a measurement fails.
    """
    processes: list[subprocess.Popen[str]] = []
    with tempfile.TemporaryFile("w+") as errors:
        try:
            yield processes, errors
        except subprocess.TimeoutExpired:
            raise MeasurementError(f"a measurement took more than {_PATIENCE} s") from None
        finally:
            for process in processes:
                if process.poll() is None:
                    process.kill()
                process.communicate()


def measure_alone(side: Side, items: int) -> float:
    """Return how many items a second one process puts and gets."""
    with _processes() as (processes, errors):
        processes.append(_start(side, "alone", _cores()[0], items, new_prefix(), errors))
        return items / _result(side, processes[0], errors)


def measure_pair(side: Side, items: int) -> float:
    """Return how many items a second go from one process to another."""
    run_id = new_prefix()
    cores = _cores()
    with _processes() as (processes, errors):
        consumer = _start(side, "consume", cores[0], items, run_id, errors)
        processes.append(consumer)
        assert consumer.stdout is not None
        if consumer.stdout.readline().strip() != "ready":
            _result(side, consumer, errors)
            raise MeasurementError(f"the consumer of {side.name} did not make its queue")
        producer = _start(side, "produce", cores[1], items, run_id, errors)
        processes.append(producer)
        _result(side, producer, errors)
        return items / _result(side, consumer, errors)


# ---- all measurements -----------------------------------------------------------------------------------------------


def run(items: int, repeats: int, engine: str, given: Path | None, least: float, console: Console) -> bool:
    """Measure both sides, print the table, and return whether ours is at least so many times as fast."""
    ours_at = Path(shared_multiprocess_queue.__file__).resolve().parents[1]
    with peer_folder(given) as folder:
        ours, peer = Side(f"this package, {engine}", ours_at, engine), Side(PEER, folder, "")
        results = {
            "put + get in one process": _measure(measure_alone, ours, peer, items, repeats),
            "from one process to another": _measure(measure_pair, ours, peer, items, repeats),
        }
    _print(results, ours, peer, console)
    missed = [what for what, measured in results.items() if median(measured.ratios) < least]
    for what in missed:
        ratio = median(results[what].ratios)
        console.print(f"{what}: {ratio:.2f} times as fast, and {least} is the least", style="red", markup=False)
    leftovers = left_behind(new_prefix().rpartition("-")[0])
    for name in leftovers:
        console.print(f"segment {name} was left in shared memory", style="red", markup=False)
    ok = not missed and not leftovers
    console.print("ok" if ok else "FAILED", style="green" if ok else "bold red")
    return ok


def _measure(measure: Callable[[Side, int], float], ours: Side, peer: Side, items: int, repeats: int) -> Measured:
    measured = Measured()
    for _ in range(repeats):
        measured.ours.append(measure(ours, items))
        measured.peer.append(measure(peer, items))
    return measured


def _print(results: dict[str, Measured], ours: Side, peer: Side, console: Console) -> None:
    table = Table("items/s", ours.name, peer.name, "ratio", caption="median (least to greatest)")
    for column in table.columns[1:]:
        column.justify = "right"
    for what, measured in results.items():
        table.add_row(
            what, _spread(measured.ours, ",.0f"), _spread(measured.peer, ",.0f"), _spread(measured.ratios, ".2f")
        )
    console.print(table)
    for what, measured in results.items():
        ratios = ", ".join(f"{ratio:.2f}" for ratio in measured.ratios)
        console.print(f"{what}, ratio of each repeat: {ratios}", markup=False)


def _spread(numbers: list[float], form: str) -> str:
    return f"{median(numbers):{form}}\n({min(numbers):{form}} to {max(numbers):{form}})"
