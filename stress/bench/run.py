"""Which measurement comes after which: every peer in turn, A B C A B C, one scenario after the other, several times."""

from __future__ import annotations

import json
import os
import platform
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from ..harness.copies import ROOT
from . import limits
from .channel import Peer
from .peers import ALL, previous
from .scenarios import GROWTH, MAIN, Scenario

_GRACE: Final = 20  # seconds that a measurement may take beyond its time
_MEMORY: Final = Path("/dev/shm")

Figures = dict[str, list[float]]


@dataclass(frozen=True)
class Plan:
    """What to measure, and how long.

    Attributes:
        scenarios: names; all if empty.
        peers: names; all that are installed if empty.
        repeats: of each measurement.
        seconds: of each measurement, about.
        growth: whether to measure what grows, too, if no scenarios are named.
    """

    scenarios: Sequence[str]
    peers: Sequence[str]
    repeats: int
    seconds: float
    growth: bool


@dataclass
class Results:
    """What was measured.

    Attributes:
        machine: where, when, and with which versions.
        peers: version of each peer that was measured.
        units: unit of each scenario.
        figures: by scenario and peer: what each repeat measured, by the name of the figure.
        limits: the same of the machine, by name.
        beside: by scenario: how long a line of cache took to and fro just before, in µs.
        imports: milliseconds that an import takes beyond that of multiprocessing.shared_memory, by peer.
        failures: by scenario and peer: what went wrong, where there is no figure.
    """

    machine: dict[str, str] = field(default_factory=dict)
    peers: dict[str, str] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    figures: dict[str, dict[str, Figures]] = field(default_factory=dict)
    limits: dict[str, Figures] = field(default_factory=dict)
    beside: dict[str, list[float]] = field(default_factory=dict)
    imports: dict[str, list[float]] = field(default_factory=dict)
    failures: dict[str, dict[str, str]] = field(default_factory=dict)


def _add(into: Figures, figures: dict[str, float]) -> None:
    for name, value in figures.items():
        into.setdefault(name, []).append(value)


# ---- hosts ----------------------------------------------------------------------------------------------------------


class _Host:
    """The process that measures one peer; started anew when a measurement hangs or kills it."""

    def __init__(self, peer: Peer, folder: Path | None) -> None:
        self.peer = peer
        # Not from the current folder, and that of the old release first: the two have one import name.
        path = [str(folder)] if folder else []
        self._environment = dict(os.environ, PYTHONPATH=os.pathsep.join([*path, str(ROOT)]))
        self._process: subprocess.Popen[str] | None = None

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None:
            self._process = subprocess.Popen(
                [self.peer.python or sys.executable, "-P", "-m", "stress.bench.host", self.peer.name],
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                bufsize=1,
                start_new_session=True,  # so that its children can be ended with it
            )
        return self._process

    def measure(self, scenario: Scenario, seconds: float) -> dict[str, float] | str:
        """Return the figures of one measurement, or what went wrong."""
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps([scenario.name, seconds]) + "\n")
            if not select.select([process.stdout], [], [], seconds + _GRACE)[0]:
                self.end()
                return f"did not end within {_GRACE} s"
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self.end()
            return f"its process ended with exit code {process.returncode}"
        answer: dict[str, float] | str = json.loads(line)
        return answer

    def import_time(self) -> float:
        """Return the milliseconds that importing the peer takes, beyond multiprocessing.shared_memory."""
        with tempfile.TemporaryDirectory() as bytecode:  # what is installed comes compiled, and so is all of this
            environment = {**self._environment, "PYTHONPYCACHEPREFIX": bytecode}
            environment.pop("PYTHONDONTWRITEBYTECODE", None)

            def took(modules: str) -> float:
                start = time.perf_counter()
                command = [self.peer.python or sys.executable, "-P", "-c", f"import {modules}"]
                subprocess.run(command, check=True, env=environment)
                return (time.perf_counter() - start) * 1e3

            bare = "multiprocessing.shared_memory"
            both = f"{bare}, {self.peer.module}"
            took(both)
            return min(took(both) for _ in range(3)) - min(took(bare) for _ in range(3))

    def end(self) -> None:
        """End the process and its children."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.communicate()
            for path in _MEMORY.glob(f"*bench-{self._process.pid}-*") if _MEMORY.is_dir() else ():
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            self._process = None


# ---- the run --------------------------------------------------------------------------------------------------------


def run(plan: Plan, console: Console) -> Results:
    """Measure everything and return it."""
    scenarios = _chosen([*MAIN, *(GROWTH if plan.growth or plan.scenarios else [])], plan.scenarios)
    results = Results(machine=describe_machine(), units={scenario.name: scenario.unit for scenario in scenarios})
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        binary = limits.build(folder)
        found = [_host(peer, folder, results, console) for peer in _chosen(ALL, plan.peers)]
        hosts = [host for host in found if host is not None]
        for host in hosts:
            stack.callback(host.end)
        for repeat in range(1, plan.repeats + 1):
            console.print(f"repeat {repeat} of {plan.repeats}", markup=False, highlight=False)
            for name, figures in limits.measure(binary, plan.seconds).items():
                _add(results.limits.setdefault(name, {}), figures)
            for scenario in scenarios:
                if scenario.kind == "rate":
                    results.beside.setdefault(scenario.name, []).append(limits.ping_pong(binary))
                for host in hosts:
                    _measure(host, scenario, plan.seconds, results)
            for host in hosts:
                results.imports.setdefault(host.peer.name, []).append(host.import_time())
    return results


def _chosen(all_of_them: Sequence[Any], names: Sequence[str]) -> list[Any]:
    return [one for one in all_of_them if not names or one.name in names]


def _host(peer: Peer, folder: Path, results: Results, console: Console) -> _Host | None:
    version, place = peer.version(), None
    if peer.distribution == previous.DISTRIBUTION:
        place = folder / "old"
        try:
            previous.install(place)
            version = previous.VERSION
        except previous.InstallError as error:
            console.print(str(error), markup=False, highlight=False)
            version = None
    if version is None:
        console.print(f"{peer.name} is not installed and left out", markup=False, highlight=False)
        return None
    results.peers[peer.name] = version
    return _Host(peer, place)


def _measure(host: _Host, scenario: Scenario, seconds: float, results: Results) -> None:
    failures = results.failures.setdefault(scenario.name, {})
    if not scenario.fits(host.peer) or host.peer.name in failures:
        return
    answer = host.measure(scenario, seconds)
    if isinstance(answer, str):
        failures[host.peer.name] = answer
    else:
        _add(results.figures.setdefault(scenario.name, {}).setdefault(host.peer.name, {}), answer)


def describe_machine() -> dict[str, str]:
    """Return what a reader of figures has to know of where they come from."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    models = [
        line.partition(":")[2].strip()
        for line in (Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else [])
        if line.startswith("model name")
    ]
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "processor": f"{os.cpu_count()} x {models[0] if models else platform.machine()}",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "commit": commit.stdout.strip() or "unknown",
    }
