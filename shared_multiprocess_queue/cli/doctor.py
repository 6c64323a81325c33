"""The command ``shmq doctor``: whether this machine is fit for queues, and what is wrong with those that are there."""

from __future__ import annotations

import os
import platform
import pwd
import resource
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import metadata
from multiprocessing.connection import wait
from pathlib import Path
from typing import Final, Literal, NamedTuple

import click
from rich.table import Table
from rich.text import Text

from .._engine import choice
from .._engine.contract import EngineName
from .._platform import atomic_words, clock, processes
from .._platform.mutex import OwnLock, lock_class
from .._platform.segment_file import FOLDER, reserve_and_give_back, space
from ..errors import Empty
from ..looking import QueueFile, list_queues
from ..queue import SharedMemoryQueue
from .demo_counting import usable_cores
from .looks import json_option
from .output import EXIT_CODES, NO, answering, cell, console, name, number, print_json, reason, size

Verdict = Literal["fine", "look", "wrong"]
_STYLES: Final[dict[Verdict, str]] = {"fine": "green", "look": "yellow", "wrong": "red"}
_SMALL: Final = 64 << 20  # bytes of shared memory that a container has if nothing else is asked for
_PROBE: Final = 1 << 20
_FEW_DESCRIPTORS: Final = 256
_PATIENCE: Final = 10.0  # seconds
_LOGIN_PLACES: Final = ("/etc/systemd", "/run/systemd", "/usr/local/lib/systemd", "/usr/lib/systemd")
_LOGIN_SETTINGS: Final = "logind.conf"
_LINGER: Final = "/var/lib/systemd/linger"
_FIRST_USER: Final = 1000  # uid of the first account of a person


class Finding(NamedTuple):
    """One line of the report.

    Attributes:
        check: what was looked at.
        verdict: "fine", "look" (worth a look) or "wrong".
        text: what was found, and what to do.
    """

    check: str
    verdict: Verdict
    text: str


@click.command("doctor", epilog=EXIT_CODES)
@json_option
@answering
def doctor_command(as_json: bool) -> None:
    """Check whether this machine is fit for queues, and the queues that are there.

    It makes a queue for each engine, and removes it. Exit code 1 if anything is wrong.
    """
    queues = list_queues()
    findings = [finding for check in _CHECKS for finding in check(queues)]
    if as_json:
        print_json("doctor", findings=[finding._asdict() for finding in findings])
    else:
        screen = console()
        table = Table.grid(padding=(0, 2))
        for finding in findings:
            verdict = Text(finding.verdict, style=_STYLES[finding.verdict])
            table.add_row(verdict, finding.check, cell(screen, finding.text))
        screen.print(table)
    if any(finding.verdict == "wrong" for finding in findings):
        raise SystemExit(NO)


# ---- the machine ----------------------------------------------------------------------------------------------------


def _memory(queues: list[QueueFile]) -> Iterator[Finding]:
    total, left = space()
    text = f"{size(left)} of {size(total)} left"
    if queues:
        text += f"; the largest of the queues that are there takes up to {size(max(queue.size for queue in queues))}"
    if total <= _SMALL:
        yield Finding("shared memory", "look", f"{text}; a container has more with --shm-size")
    else:
        yield Finding("shared memory", "look" if left < total // 20 else "fine", text)
    try:
        reserve_and_give_back(_PROBE)
    except OSError as error:
        yield Finding("shared memory", "wrong", f"{size(_PROBE)} in {FOLDER} cannot be had: {error.strerror}")


def _descriptors(queues: list[QueueFile]) -> Iterator[Finding]:
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    text = f"{limit:,} for a process; an open queue needs none, and three while it is opened"
    yield Finding("descriptors", "look" if limit < _FEW_DESCRIPTORS else "fine", text)


def _versions(queues: list[QueueFile]) -> Iterator[Finding]:
    packages = ("shared-multiprocess-queue", "atomics", "shared-memory-lock")
    found = ", ".join(f"{package} {_version(package)}" for package in packages)
    yield Finding("versions", "fine", f"Python {platform.python_version()}, {found}")
    own = " (the protocol of shared-memory-lock, by this package)" if lock_class() is OwnLock else ""
    yield Finding("batch lock", "fine", f"{lock_class().__name__}{own}")
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        yield Finding("GIL", "look", "it is off; the native engine turns it on when it is imported")


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "(not installed)"


def _words(queues: list[QueueFile]) -> Iterator[Finding]:
    try:
        atomic_words.prepare()
    except ImportError as error:
        yield Finding("atomic words", "wrong", str(error))
    else:
        yield Finding("atomic words", "fine", f"the table of the package atomics, on {platform.machine()}")


def _processors(queues: list[QueueFile]) -> Iterator[Finding]:
    usable, there = usable_cores(), os.cpu_count() or 1
    few = "; a process that waits gives the core away, and a round trip takes a change of process"
    yield Finding("processors", "fine" if usable > 1 else "look", f"{usable} of {there} usable{few * (usable < 2)}")


def _processes(queues: list[QueueFile]) -> Iterator[Finding]:
    if not processes.identity().namespace:
        yield Finding(
            "processes",
            "wrong",
            "others cannot be looked up from here, so no death is seen: mount the procfs of this pid namespace",
        )
        return
    _, hidden = processes.mapped_files(os.stat(FOLDER).st_dev)
    text = "deaths in this pid namespace are seen"
    if hidden:
        text += f"; {number(hidden, 'process')} could not be looked at, so shmq may not name all users of a queue"
    yield Finding("processes", "fine", text)
    strangers = [queue for queue in queues if queue.look and queue.look.count("unknown")]
    for queue in strangers:
        text = f"{name(queue.name)} has processes of another pid namespace; their deaths are not seen from here"
        yield Finding("processes", "look", text)


def _removal(queues: list[QueueFile]) -> Iterator[Finding]:
    """Look whether systemd removes the queues of a user at the end of the last session."""
    if os.getuid() < _FIRST_USER or not Path("/run/systemd/system").is_dir():
        return
    try:
        lingers = Path(_LINGER, pwd.getpwuid(os.getuid()).pw_name).exists()
    except KeyError:  # a user without a name has no session either
        return
    if not lingers and _removes_ipc():
        text = "systemd removes queues when this user logs out; set RemoveIPC=no, or loginctl enable-linger"
        yield Finding("logging out", "look", text)


def _removes_ipc() -> bool:
    """Whether systemd has RemoveIPC: the last file that states it wins, first the main one, then those beside it."""
    main = next((file for place in _LOGIN_PLACES if (file := Path(place, _LOGIN_SETTINGS)).exists()), None)
    beside: dict[str, Path] = {}  # of files of one name the first place wins
    for place in _LOGIN_PLACES:
        for file in Path(place).glob(f"{_LOGIN_SETTINGS}.d/*.conf"):
            beside.setdefault(file.name, file)
    answer = "yes"
    for file in ([main] if main else []) + [beside[key] for key in sorted(beside)]:
        with suppress(OSError):
            for line in file.read_text("utf-8", "replace").splitlines():
                key, _, value = line.partition("=")
                if key.strip() == "RemoveIPC":
                    answer = value.strip().lower() or "yes"
    return answer in ("yes", "y", "true", "t", "1", "on")


# ---- the engines ----------------------------------------------------------------------------------------------------


def _engines(queues: list[QueueFile]) -> Iterator[Finding]:
    engines: tuple[EngineName, ...] = ("native", "atomics")
    for engine in engines:
        try:
            yield Finding(f"engine {engine}", "fine", _round_trip(engine))
        except ImportError as error:
            yield Finding(f"engine {engine}", "wrong" if engine == "atomics" else "look", str(error))
        except Exception as error:  # whatever it is, it is a finding
            yield Finding(f"engine {engine}", "wrong", f"{type(error).__name__}: {error}")
    chosen = os.environ.get(choice.ENVIRONMENT)
    if chosen:
        yield Finding("engine", "fine", f"{choice.ENVIRONMENT}={chosen}")


def _round_trip(engine: EngineName) -> str:
    """Let an item go through a queue, and a doorbell ring."""
    began = clock.now()
    with SharedMemoryQueue[str](capacity=2, item_size=64, engine=engine) as queue:
        queue.fileno()
        with suppress(Empty):
            queue.get_nowait()  # from a call that finds nothing on, the doorbell waits for an item
        queue.put("an item", timeout=_PATIENCE)
        wait([queue.fileno()], _PATIENCE)
        item = queue.get(timeout=_PATIENCE)
        bells = queue.get_metrics()["bells"]
        passed = (clock.now() - began) / 1e6
    if item != "an item":
        raise RuntimeError(f"an item came back as {item!r}")
    if bells != "ring":
        raise RuntimeError(f"its doorbell is {bells}: select and event loops hear of items after 0.1 s only")
    return f"an item went through a queue, and its doorbell rang, in {passed:.1f} ms"


# ---- the queues -----------------------------------------------------------------------------------------------------


def _queues(queues: list[QueueFile]) -> Iterator[Finding]:
    for queue in queues:
        label = name(queue.name)
        if queue.state == "damaged":
            yield Finding("queues", "wrong", f"{label} is damaged: {queue.why}; shmq rm {_quoted(queue)} removes it")
        elif queue.state == "layout":
            yield Finding("queues", "look", f"{label}: {queue.why}; shmq rm {_quoted(queue)} removes it")
        elif queue.state == "leftover":
            yield Finding("queues", "look", f"{label}: {reason(queue)}")
        if queue.look is not None:
            yield from _look(label, queue)
    unused = [queue for queue in queues if queue.state == "ok" and queue.in_use is False]
    if unused:
        text = f"{number(len(unused), 'queue')} without a user, {size(sum(queue.memory for queue in unused))}; shmq gc"
        yield Finding("queues", "look", text)
    yield Finding("queues", "fine", f"{number(len(queues), 'queue')} of this user")


def _quoted(queue: QueueFile) -> str:
    return name(shlex.quote(queue.name))


def _look(label: str, queue: QueueFile) -> Iterator[Finding]:
    assert queue.look is not None
    paused = {one.pid for one in queue.look.processes if one.state == "paused"}
    for blocker in queue.look.blocked_by:
        if blocker.pid in paused:
            text = f"{label}: process {blocker.pid} is paused in a {blocker.doing}, and others wait; kill -CONT"
            yield Finding("blockers", "wrong", f"{text} {blocker.pid}")
    dead = queue.look.count("dead")
    if dead:
        yield Finding("queues", "fine", f"{label} has records of {number(dead, 'dead process')}; they are taken over")


_CHECKS: Final[tuple[Callable[[list[QueueFile]], Iterator[Finding]], ...]] = (
    *(_versions, _words, _engines, _processors),
    *(_memory, _descriptors, _processes, _removal, _queues),
)
