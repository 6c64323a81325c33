"""The commands that look: ls, show, peek and wait. None of them takes part in a queue."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from .._platform import clock
from .._platform.segment_file import space
from ..errors import CorruptQueueError, LayoutVersionError, QueueNotFoundError, QueueNotReadyError
from ..looking import QueueFile, inspect, list_queues
from ..looking.files import inspected
from ..looking.items import Items, QueuedItem
from ..looking.previews import kind_of, loaded, preview
from . import screens
from .output import (
    EXIT_CODES,
    NO,
    NOT_PERMITTED,
    NOT_USABLE,
    Duration,
    answering,
    ask,
    console,
    fail,
    name,
    number,
    print_json,
    reason,
)
from .stop_signals import StopSignals

F = TypeVar("F", bound=Callable[..., Any])
_FIRST: Final = 5  # items that show prints
_POLL: Final = (0.005, 0.1)  # seconds between two looks of wait: at first, and at most

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
run_id_option = click.option("--run-id", default="", metavar="R", help="The run_id of the queue.")
yes_option = click.option("--yes", "-y", is_flag=True, help="Do not ask.")


def only_here(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """Return names of queues, which a URL is none of."""
    for text in value if isinstance(value, tuple) else (value,):
        if "://" in text:
            raise click.UsageError(
                "a URL is of a queue on a server, and this command sees queues of this machine only; for one on a "
                "server RemoteQueue(url).get_metrics() tells about it, and RemoteQueue.remove(url) removes it"
            )
    return value


_SORTS: Final[dict[str, Callable[[QueueFile], Any]]] = {
    "name": lambda queue: queue.name,
    "items": lambda queue: -(queue.look.items if queue.look else -1),
    "memory": lambda queue: -queue.memory,
    "age": lambda queue: queue.created,
}


@click.command("ls", epilog=EXIT_CODES)
@click.argument("pattern", default="*")
@click.option("--sort", type=click.Choice(list(_SORTS)), default="name", show_default=True, help="Order.")
@click.option("-q", "--quiet", is_flag=True, help="Print the names only.")
@click.option("--all", "everything", is_flag=True, help="Also what is no queue, and files of other users.")
@json_option
@answering
def ls_command(pattern: str, sort: str, quiet: bool, everything: bool, as_json: bool) -> None:
    """List the queues in shared memory.

    PATTERN is of their names, as in a shell. A name is that of the segment without -queue: NAME, or RUN_ID-NAME.
    """
    queues = sorted(list_queues(pattern, foreign=everything), key=_SORTS[sort])
    if as_json:
        total, left = space()
        print_json("ls", queues=[queue.as_dict() for queue in queues], memory={"total": total, "left": left})
    elif quiet:
        for queue in queues:
            click.echo(name(queue.name))
    else:
        screen = console()
        if queues:
            screen.print(screens.table(screen, screens.LIST, queues))
            screen.print()
        screen.print(screens.summary(queues, *space()))


@click.command("show", epilog=EXIT_CODES)
@click.argument("queue_name", metavar="NAME", callback=only_here)
@run_id_option
@json_option
@answering
def show_command(queue_name: str, run_id: str, as_json: bool) -> None:
    """Show all about one queue: sizes, totals, processes and what they do, blockers, the next items."""
    queue = inspect(queue_name, run_id)
    if as_json:
        print_json("show", queue=queue.as_dict())
    else:
        screen = console()
        items = _next_items(queue_name, run_id, _FIRST) if queue.look and queue.look.items else []
        shown = screens.items_table(screen, items) if items else None
        screen.print(screens.one_queue(screen, queue, shown))
    if queue.state == "denied":
        raise SystemExit(NOT_PERMITTED)
    if queue.state != "ok":
        raise SystemExit(NOT_USABLE)


def _next_items(queue_name: str, run_id: str, most: int) -> list[tuple[QueuedItem, str]]:
    try:
        return _peeked(queue_name, run_id, most, unpickle=False)
    except (QueueNotFoundError, QueueNotReadyError, LayoutVersionError, CorruptQueueError):
        return []  # it has gone, or was cut, since the look


def _peeked(queue_name: str, run_id: str, most: int, unpickle: bool) -> list[tuple[QueuedItem, str]]:
    items = Items(queue_name, run_id)
    try:
        limit = items.geometry.max_item_size

        def content(item: QueuedItem) -> str:
            if item.payload is None or item.tag is None:
                return ""
            if unpickle and items.serializer == "pickle":  # in no other queue is an item to be loaded
                return loaded(item.payload, item.tag, items, limit)
            return preview(item.payload, item.tag, limit)

        return [(item, content(item)) for item in items.next(most)]
    finally:
        items.close()


@click.command("peek", epilog=EXIT_CODES)
@click.argument("queue_name", metavar="NAME", callback=only_here)
@click.option("-n", "most", type=click.IntRange(1), default=10, show_default=True, help="How many items at most.")
@click.option("--unpickle", is_flag=True, help="Load pickles, which runs whatever code they name.")
@yes_option
@run_id_option
@json_option
@answering
def peek_command(queue_name: str, most: int, unpickle: bool, yes: bool, run_id: str, as_json: bool) -> None:
    """Show the next items of a queue without taking them.

    Everyday objects are shown as they are. Pickles are not loaded, because that runs code: the classes and functions
    that they name are shown. With --unpickle they are loaded. That may also use up what an item refers to: a connection
    or a descriptor that it brings is then lost to its receiver.
    """
    if unpickle and not yes:
        ask(f"Load the items of {name(queue_name)}, and run whatever code they name?")
    queue = inspected(queue_name, run_id, mapped=False)
    if queue.state in ("unfinished", "leftover"):
        raise fail(f"{name(queue.name)} cannot be looked into: {reason(queue)}", NOT_USABLE)
    items = _peeked(queue_name, run_id, most, unpickle)
    if as_json:
        print_json("peek", items=[_item(item, content) for item, content in items])
    elif items:
        screen = console()
        screen.print(screens.items_table(screen, items))
    else:
        click.echo("no items", err=True)
    if queue.state == "damaged":
        raise fail(f"{name(queue.name)} is damaged, so these may not be its next items: {queue.why}", NOT_USABLE)


def _item(item: QueuedItem, content: str) -> dict[str, Any]:
    return {
        "position": item.position,
        "note": item.note,
        "bytes": None if item.payload is None else len(item.payload),
        "tag": item.tag,
        "kind": None if item.tag is None else kind_of(item.tag),
        "content": content,
    }


# ---- wait -----------------------------------------------------------------------------------------------------------


@click.command("wait", epilog=EXIT_CODES)
@click.argument("queue_name", metavar="NAME", callback=only_here)
@click.option("--items", type=click.IntRange(1), metavar="N", help="Until there are N items or more.")
@click.option("--empty", is_flag=True, help="Until there is no item. Leased items do not count.")
@click.option("--shutdown", is_flag=True, help="Until the queue is shut down.")
@click.option("--timeout", type=Duration(), metavar="S", help="For so long at most.  [default: for ever]")
@run_id_option
@json_option
@answering
def wait_command(
    queue_name: str,
    items: int | None,
    empty: bool,
    shutdown: bool,
    timeout: float | None,
    run_id: str,
    as_json: bool,
) -> None:
    """Wait until something is true of a queue; without a condition, until the queue is there.

    Exit code 1 if the time is over before that. With a condition the queue must be there, and stay there.
    """
    if (items is not None) + empty + shutdown > 1:
        raise click.UsageError("only one of --items, --empty and --shutdown can be waited for")
    may_be_missing = not (items or empty or shutdown)
    until = clock.deadline_of(True, timeout)
    with StopSignals() as signals:
        pause, longest = _POLL
        while True:
            signals.check()
            queue = _look(queue_name, run_id, may_be_missing)
            if queue is not None and _is_so(queue, items, empty, shutdown):
                break
            left = (until - clock.now()) / 1e9
            if left <= 0:
                raise fail(f"waited {timeout:g} s for {name(queue_name)} in vain: {_what_is(queue, shutdown)}", NO)
            clock.sleep(min(pause, left))
            pause = min(pause * 1.5, longest)
    if as_json:
        print_json("wait", queue=queue.as_dict())


def _look(queue_name: str, run_id: str, may_be_missing: bool) -> QueueFile | None:
    try:
        queue = inspected(queue_name, run_id, mapped=False)
    except QueueNotFoundError:
        if may_be_missing:
            return None
        raise
    if queue.state == "denied":
        raise fail(f"{name(queue_name)}: {queue.why}", NOT_PERMITTED)
    if queue.state not in ("ok", "unfinished") and not (may_be_missing and queue.state == "leftover"):
        raise fail(f"{name(queue_name)} cannot be waited for: {reason(queue)}", NOT_USABLE)
    return queue


def _what_is(queue: QueueFile | None, shutdown: bool) -> str:
    if queue is None:
        return "there is no such queue"
    if queue.look is None:
        return queue.why
    return "it is not shut down" if shutdown else f"it has {number(queue.look.items, 'item')}"


def _is_so(queue: QueueFile, items: int | None, empty: bool, shutdown: bool) -> bool:
    if queue.look is None:
        return False
    if items is not None:
        return queue.look.items >= items
    if empty:
        return queue.look.items == 0 and queue.look.empty
    return queue.look.shut_down or not shutdown
