"""The commands that remove: rm and gc remove queues, drain takes items."""

from __future__ import annotations

import os
import select
import stat
import sys
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from io import FileIO
from typing import Final

import click
from rich.console import Console

from .._engine.removing import remove_if_unused
from .._platform import clock, processes
from ..drained import DEFINITIONS, frame, is_deflated, size_frame
from ..draining import Drain
from ..errors import SharedMemoryQueueError
from ..looking import QueueFile, inspect, list_queues
from ..looking.files import ENDING, NOT_LOOKED, look_at
from ..looking.found import QueueLook
from ..looking.previews import names_main
from ..queue import SharedMemoryQueue
from . import screens
from .looks import json_option, only_here, run_id_option, yes_option
from .output import (
    EXIT_CODES,
    NO,
    NOT_PERMITTED,
    NOT_USABLE,
    Duration,
    Failed,
    answering,
    ask,
    code_of,
    console,
    fail,
    name,
    number,
    print_json,
    reason,
    size,
)
from .stop_signals import StopSignals

# ---- rm -------------------------------------------------------------------------------------------------------------


@click.command("rm", epilog=EXIT_CODES)
@click.argument("names", metavar="NAME...", nargs=-1, required=True, callback=only_here)
@click.option("--force", is_flag=True, help="Do not ask, also if a process uses the queue.")
@run_id_option
@json_option
@answering
def rm_command(names: tuple[str, ...], force: bool, run_id: str, as_json: bool) -> None:
    """Remove queues, with the items in them.

    If a process uses a queue, or if the queue is damaged or of another layout, it asks first. A process that uses the
    queue goes on with one that has no name. What is no queue is never removed.
    """
    removed, worst = [], 0
    lost: list[dict[str, str | int]] = []
    for each in names:
        try:
            queue = _remove(each, run_id, force)
            removed.append(each)
            if (held := _held(queue)) and queue.look:
                lost.append({"name": each, "items": queue.look.items, "dead_letters": queue.look.dead_letters})
                click.echo(f"{name(each)} is removed, and had {held}", err=True)
        except click.Abort:
            click.echo(f"{name(each)} stays", err=True)
            worst = max(worst, NO)
        except click.ClickException as error:
            error.show()
            worst = max(worst, error.exit_code)
        except (SharedMemoryQueueError, OSError) as error:
            fail(str(error)).show()
            worst = max(worst, code_of(error))
    if as_json:
        print_json("rm", removed=removed, lost=lost)
    if worst:
        raise SystemExit(worst)


def _remove(queue_name: str, run_id: str, force: bool) -> QueueFile:
    """Remove a queue; return what a look before that has found."""
    queue = inspect(queue_name, run_id)
    label = name(queue.name)
    if queue.state == "foreign":
        raise fail(f"{label} is no queue, and stays: {queue.why}", NOT_USABLE)
    if queue.state == "denied":
        raise fail(f"{label}: {queue.why}", NOT_PERMITTED)
    doubt = _doubt(queue)
    if doubt and not force:
        held = _held(queue)
        ask(f"{label} {doubt}{f', and has {held}' if held else ''}. Remove it all the same?")
        if inspect(queue_name, run_id).identity != queue.identity:
            raise fail(f"{label} is another queue by now, and stays; look again")
    if force or queue.in_use is None or doubt:
        SharedMemoryQueue.remove(queue_name, run_id, force=True)
    else:  # a process that has attached since the look keeps the queue
        SharedMemoryQueue.remove(queue_name, run_id)
    return queue


def _held(queue: QueueFile) -> str:
    """Return what a queue has, in words; empty if it has nothing, or if that cannot be told."""
    look = queue.look
    counts = {} if look is None else {"item": look.items, "dead letter": look.dead_letters}
    return " and ".join(number(count, noun) for noun, count in counts.items() if count)


def _doubt(queue: QueueFile) -> str:
    """Return why a queue may be needed; empty if nothing speaks for that."""
    if queue.in_use:
        look = queue.look
        users = [] if look is None else [one for one in look.processes if one.state != "dead"]
        if not users:
            return "is used by a process that cannot be told"
        them = ", ".join(f"{one.pid} ({name(one.command)})" if one.command else str(one.pid) for one in users)
        return f"is used by process {them}"
    if queue.state in ("damaged", "layout"):
        return f"may hold items: {queue.why}"
    return ""


# ---- gc -------------------------------------------------------------------------------------------------------------


@click.command("gc", epilog=EXIT_CODES)
@click.argument("pattern", default="*")
@click.option("--dry-run", is_flag=True, help="List only.")
@yes_option
@click.option(
    "--with-items", is_flag=True, help="With --yes: also queues in which items or dead letters are, or may be."
)
@click.option("--older-than", type=Duration(), default=0.0, metavar="D", help="Only those made so long ago: 2d, 3h.")
@json_option
@answering
def gc_command(pattern: str, dry_run: bool, yes: bool, with_items: bool, older_than: float, as_json: bool) -> None:
    """Remove the queues of this user that no process uses.

    The lock of use decides: no process has the queue mapped, in any pid namespace. A queue with items and without a
    user is not rubbish by itself, because its consumer may come tomorrow. So this asks, and --yes alone leaves such
    queues. A queue that is used, or changed, after it was listed stays.
    """
    unused = [queue for queue in list_queues(pattern) if _is_unused(queue)]
    found = [queue for queue in unused if not older_than or clock.real() / 1e9 - queue.created >= older_than]
    chosen = [queue for queue in found if not yes or with_items or not _may_have_items(queue)]
    asks = bool(chosen) and not yes and not dry_run
    if asks or not as_json:
        _print_unused(console(stderr=as_json), found, set(map(id, chosen)) if yes else None, len(unused) - len(found))
    removed: list[QueueFile] = []
    kept: list[QueueFile] = []
    if chosen and not dry_run:
        if asks:
            ask(f"Remove {number(len(chosen), 'queue')}?")
        for queue in chosen:
            (removed if _collect(queue) else kept).append(queue)
        for queue in kept:
            click.echo(f"{name(queue.name)} stays: it is used or has changed meanwhile", err=True)
    if as_json:
        print_json("gc", found=[queue.as_dict() for queue in found], removed=[queue.name for queue in removed])
    elif not dry_run:
        click.echo(f"{number(len(removed), 'queue')} removed")
    if kept:
        raise SystemExit(NO)


def _is_unused(queue: QueueFile) -> bool:
    """Whether a look says that no process uses a queue; the removal asks again."""
    if queue.state not in ("ok", "damaged", "leftover", "layout") or queue.in_use is not False:
        return False
    if queue.state != "layout":
        return True
    return not any(processes.that_map(queue.device, queue.inode))  # layout 1 has no lock of use


def _may_have_items(queue: QueueFile) -> bool:
    look = queue.look
    if queue.state != "ok" or look is None:
        return queue.state != "leftover"
    # Also what processes had in hand; those of another pid namespace seem to live.
    has_any = look.items > 0 or look.dead_letters > 0 or not look.empty or bool(look.leased)
    return has_any or any(one.doing for one in look.processes)


def _collect(queue: QueueFile) -> bool:
    """Remove a queue if it is still as it was listed and no process uses it; return whether it is gone."""

    def is_as_it_was() -> bool:
        now = look_at(queue.name + ENDING, NOT_LOOKED)
        return now is not None and _content(now) == _content(queue)

    try:
        outcome = remove_if_unused(queue.name + ENDING, (queue.device, queue.inode), is_as_it_was)
    except (OSError, SharedMemoryQueueError, UnicodeEncodeError):
        return False
    return outcome in ("removed", "gone")


def _content(queue: QueueFile) -> tuple[object, ...]:
    look = queue.look
    return (queue.size, queue.layout, None if look is None else (look.head, look.tail, look.items, look.dead_letters))


def _print_unused(screen: Console, found: list[QueueFile], chosen: set[int] | None, younger: int) -> None:
    if not found:
        screen.print(f"no queue without a user{' is old enough' if younger else ''}")
    else:
        _print_table(screen, found, chosen)
    if younger:
        screen.print(f"{number(younger, 'queue')} without a user left, because of --older-than")


def _print_table(screen: Console, found: list[QueueFile], chosen: set[int] | None) -> None:
    columns = [column for column in screens.LIST if column.heading in {"QUEUE", "ITEMS", "STATE", "MEMORY", "AGE"}]
    screen.print(screens.table(screen, columns, found))
    for queue in found:
        if queue.look and queue.look.dead_letters:
            letters = number(queue.look.dead_letters, "dead letter")
            screen.print(f"{name(queue.name)} has {letters}", markup=False, highlight=False, soft_wrap=True)
    if chosen is not None and len(chosen) < len(found):
        left = [queue for queue in found if id(queue) not in chosen]
        screen.print(f"{number(len(left), 'queue')} left, because of the items; --with-items takes those, too")


# ---- drain ----------------------------------------------------------------------------------------------------------

_SLICE: Final = 0.1  # seconds between two looks at signals while a pipe is full
_PATIENCE: Final = 0.5  # seconds for which nothing can be taken, though items wait, until drain gives up
_PAUSE: Final = 0.01  # seconds between two tries meanwhile
_MOST_NAMED: Final = 5  # processes in a message
_LAST_TAG: Final = 255  # one above that says that the slot stated more bytes than it holds


@click.command("drain", epilog=EXIT_CODES)
@click.argument("queue_name", metavar="NAME", callback=only_here)
@click.option("-n", "most", type=click.IntRange(1), metavar="N", help="Take N items at most.  [default: until empty]")
@click.option("--to", "target", metavar="FILE", help="Write the items to a new file, or with - to stdout.")
@yes_option
@run_id_option
@json_option
@answering
def drain_command(queue_name: str, most: int | None, target: str | None, yes: bool, run_id: str, as_json: bool) -> None:
    """Take items out of a queue, and count them, or write them to a file.

    Each item is written as its length and its tag (32 bits each, little-endian), then its bytes as they lay in the
    queue. The function read_drained of the package reads them back. No item becomes an object, so no code of one runs.

    With leases an item is ended after it was written: a kill or a full disk loses none, and one may be written twice.
    Without leases the item in hand goes back into the queue, behind the others, if it cannot be written; if the queue
    does not take it, its bytes are in the error message. A kill loses that one. What is in a pipe was written.

    A queue that goes with its last user goes with drain if it is empty then, and no other process uses it.

    Exit code 1 if items are left that cannot be taken: stderr says how many, and what is in the way.
    """
    if as_json and target == "-":
        raise click.UsageError("--json and the items cannot both go to stdout; give --to a file")
    queue = inspect(queue_name, run_id)
    look = queue.look
    if look is None or queue.state != "ok":
        code = NOT_PERMITTED if queue.state == "denied" else NOT_USABLE
        raise fail(f"{name(queue.name)} cannot be drained: {reason(queue)}", code)
    if not yes:
        there = number(look.items, "item")
        letters = f", and its {number(look.dead_letters, 'dead letter')} with it" if look.dead_letters else ""
        goes = f", and goes with its last user: if it is empty then, drain removes it{letters}" * (
            look.delete and not queue.in_use
        )
        fate = f"write them to {name(target)}" if target else "drop them"
        ask(f"{name(queue.name)} has {there}{goes}. Take {f'{most:,} at most' if most else 'all'} and {fate}?")
        if inspect(queue_name, run_id).identity != queue.identity:
            raise fail(f"{name(queue.name)} is another queue by now, and nothing was taken; look again")
    taken = _Taken()

    def tell() -> None:
        if as_json:
            fields = {"items": taken.items, "bytes": taken.size, "damaged": taken.damaged, "of_main": taken.of_main}
            print_json("drain", **fields, to=target)
        else:
            click.echo(str(taken), err=target == "-")

    with StopSignals() as signals, ExitStack() as stack:
        drain = Drain(queue_name, run_id, look.serializer, (queue.device, queue.inode))
        stack.callback(drain.close)
        file = None if target is None else stack.enter_context(_opened(target))
        try:
            left = _drain(drain, file, most, signals, taken, queue)
        except BaseException as error:
            failed = _failed(drain.close(), error)
            with suppress(OSError):  # what it says of an item must not be lost with the output
                tell()
            if failed is None:
                raise
            raise failed from error
        drain.close()
        tell()
    if left is not None:
        _tell_what_stays(left)


@dataclass
class _Taken:
    """What was taken out of a queue."""

    items: int = 0
    size: int = 0
    damaged: int = 0
    of_main: int = 0

    def __str__(self) -> str:
        damaged = f", {self.damaged:,} of them damaged" if self.damaged else ""
        return f"{number(self.items, 'item')} taken{damaged}, {size(self.size)} in all"


def _drain(
    drain: Drain, file: FileIO | None, most: int | None, signals: StopSignals, taken: _Taken, queue: QueueFile
) -> QueueFile | None:
    """Take items until there are none, or none that can be taken, and write them.

    Returns:
        The queue, as it was when there was nothing to take; None if all that were wanted were taken, or it has gone.

    Raises:
        OSError: an item cannot be written; it was not ended.
        InterruptedBySignal: the user wants to stop.
        RoleTakenError: mode "spsc", and another live handle is the consumer.
    """
    has_told_size = False
    until = None
    while most is None or taken.items < most:
        signals.check()
        found = drain.take()
        if found is None:
            left = look_at(queue.name + ENDING, NOT_LOOKED)
            if left is None or left.look is None or left.identity != queue.identity:
                return None
            until = until or clock.deadline_of(True, _PATIENCE)
            if not left.look.items or clock.now() >= until:
                return left
            clock.sleep(_PAUSE)  # a put that is under way ends soon, if its process runs
            continue
        until = None
        payload, tag = found
        if tag > _LAST_TAG:
            taken.damaged += 1
        elif file is not None:
            frames = frame(payload, tag)
            if is_deflated(tag) and not has_told_size:
                frames, has_told_size = size_frame(drain.item_size) + frames, True
            if names_main(payload, tag):
                taken.of_main += 1
                definitions = drain.definitions()
                frames = (frame(definitions, DEFINITIONS) if definitions else b"") + frames
            _write(file, frames, signals)
        drain.end()
        taken.items += 1
        taken.size += len(payload)
    return None


def _tell_what_stays(queue: QueueFile) -> None:
    """Say on stderr what drain could not take.

    Raises:
        Failed: items wait.
    """
    look, label = queue.look, name(queue.name)
    assert look is not None
    if look.dead_letters:
        letters = number(look.dead_letters, "dead letter")
        now = look_at(queue.name + ENDING, NOT_LOOKED)
        if now is None or now.identity != queue.identity:
            text = f"went with drain, its last user, and {letters} with it"
        else:
            text = f"has {letters} left; dead_letters() of the library lists them and puts them back"
        click.echo(f"{label} {text}", err=True)
    if look.items:
        raise fail(f"{label} has {number(look.items, 'item')} left that cannot be taken now: {_in_the_way(look)}")
    if look.leased:
        leased = number(len(look.leased), "item")
        click.echo(f"{label} has {leased} leased by {_processes(one.pid for one in look.leased)}", err=True)


def _in_the_way(look: QueueLook) -> str:
    """Return what keeps the items of a queue from being taken, and what to do."""
    putting = {blocker.pid for blocker in look.blocked_by if blocker.doing == "put"}
    if putting:
        paused = sorted(putting & {one.pid for one in look.processes if one.state == "paused"})
        advice = f"it is paused: kill -CONT {' '.join(map(str, paused))}" if paused else "drain again when it has"
        return f"a put or reservation of {_processes(putting)} has not ended; {advice}"
    if look.leases and len(look.leased) >= look.leases:
        held = f"all {look.leases:,} leases are" if look.leases > 1 else "the one lease is"
        return f"{held} held by {_processes(one.pid for one in look.leased)}; drain again when one is free"
    if look.empty:
        return "they come back from leases after a delay; drain again when it is over"
    return "shmq show tells what its processes do"


def _processes(pids: Iterable[int]) -> str:
    found = sorted(set(pids))
    more = f" and {len(found) - _MOST_NAMED:,} more" if len(found) > _MOST_NAMED else ""
    return f"process{'es' * (len(found) > 1)} {', '.join(map(str, found[:_MOST_NAMED]))}{more}"


def _failed(item: tuple[bytes, int] | None, error: BaseException) -> Failed | None:
    """Return how the command ends: with the bytes of an item that could not go back; None if the error says all."""
    is_of_output = isinstance(error, OSError) and not isinstance(error, SharedMemoryQueueError)
    why = error.strerror if isinstance(error, OSError) and is_of_output else str(error)
    if item is not None:
        payload, tag = item
        return fail(f"an item could not be written ({why}), nor go back: tag {tag}, bytes {payload.hex()}")
    return fail(f"an item could not be written, and went back: {why}") if is_of_output else None


def _write(file: FileIO, frames: bytes, signals: StopSignals) -> None:
    """Write all of some frames; if that fails, a file that can be cut has none of them.

    Raises:
        OSError: it fails.
        InterruptedBySignal: the user wants to stop, and the pipe has no room; part of it may be in there.
    """
    view, written = memoryview(frames), 0
    most = (
        len(frames) if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else select.PIPE_BUF
    )  # what a pipe with room takes
    try:
        while written < len(frames):
            while not select.select([], [file], [], _SLICE)[1]:
                signals.check()
            written += file.write(view[written : written + most]) or 0
    except OSError:
        with suppress(OSError):
            file.truncate(file.tell() - written)
        raise


def _opened(target: str) -> FileIO:
    """Return the file to write to, without a buffer: what was written is with the system.

    Raises:
        click.UsageError: it exists.
    """
    if target == "-":
        return FileIO(os.dup(sys.stdout.fileno()), "wb")
    try:
        return FileIO(target, "xb", opener=lambda path, flags: os.open(path, flags | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        raise click.UsageError(f"{name(target)} exists already; drain writes to a new file") from None
