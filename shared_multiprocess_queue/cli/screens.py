"""The screens of the command: tables of queues, and all about one queue. To add a column is to add a line here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from rich import box
from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from .._platform import clock
from ..looking.found import QueueFile, QueueLook
from ..looking.items import QueuedItem
from ..looking.previews import kind_of
from ..looking.rates import Change
from .output import age, bar, cell, name, number, size, state_of

Row = TypeVar("Row")
_WIDE: Final = 10_000  # columns, more than any table has
_AROUND_TITLE: Final = 6  # columns: the frame
_FRAME: Final = 4  # columns of the frame of a queue, with the blanks in it
_BETWEEN: Final = 3  # columns between two columns of a table in it
_ALARMS: Final = {"damaged": "red", "leftover": "yellow", "denied": "yellow", "unfinished": "yellow"}


@dataclass(frozen=True)
class Column(Generic[Row]):
    """A column of a table.

    Attributes:
        heading: in capitals.
        value: returns the text of a row.
        left: whether texts stand at the left.
    """

    heading: str
    value: Callable[[Console, Row], RenderableType]
    left: bool = False


def _of_look(text: Callable[[QueueLook], str]) -> Callable[[Console, QueueFile], str]:
    """Return the function of a column that only a queue has that can be looked into."""
    return lambda screen, queue: text(queue.look) if queue.look else ""


def _fill(screen: Console, queue: QueueFile) -> RenderableType:
    return bar(screen, queue.look.slots_used / queue.look.capacity) if queue.look else ""


def _name(screen: Console, queue: QueueFile) -> Text:
    found = cell(screen, queue.name)
    if screen.is_terminal:
        found.truncate(screen.width // 3, overflow="ellipsis")
    return found


def _state(screen: Console, queue: QueueFile) -> Text:
    return Text(state_of(queue), style=_ALARMS.get(queue.state, ""))


LIST: Final[tuple[Column[QueueFile], ...]] = (
    Column("QUEUE", _name, left=True),
    Column("FILL", _fill, left=True),
    Column("ITEMS", _of_look(lambda look: f"{look.items:,}")),
    Column("STATE", _state, left=True),
    Column("CAPACITY", _of_look(lambda look: f"{look.capacity:,}")),
    Column("LIVE", _of_look(lambda look: str(look.count("alive", "paused", "unknown")))),
    Column("DEAD", _of_look(lambda look: str(look.count("dead")))),
    Column("MEMORY", lambda screen, queue: size(queue.memory)),
    Column("AGE", lambda screen, queue: age(clock.real() / 1e9 - queue.created)),
    Column("ITEM", _of_look(lambda look: size(look.max_item_size))),
    Column("MODE", _of_look(lambda look: look.mode)),
    Column("LEASED", _of_look(lambda look: f"{len(look.leased)} of {look.leases}" if look.leases else "")),
    Column("FORMAT", _of_look(lambda look: name(look.serializer)), left=True),
)
"""What ``shmq ls`` shows. In a narrow terminal columns go from the right."""

Changed = tuple[QueueFile, Change]


def _rate(counter: str) -> Callable[[Console, Changed], str]:
    return lambda screen, row: f"{row[1].rates[counter]:,.0f}" if counter in row[1].rates else ""


def _waits(screen: Console, row: Changed) -> str:
    rates = row[1].rates
    return f"{rates['put_waits'] + rates['get_waits']:,.0f}" if rates else ""


def _blocked(screen: Console, row: Changed) -> Text:
    if row[1].blocked is None:
        return Text("")
    blocker, seconds = row[1].blocked
    paused = row[0].look is not None and any(
        one.pid == blocker.pid and one.state == "paused" for one in row[0].look.processes
    )
    text = f"{blocker.pid} {blocker.doing}, {seconds:.1f} s"
    return Text(f"{text}, paused" if paused else text, style="red" if paused or seconds >= 1 else "")


TOP: Final[tuple[Column[Changed], ...]] = (
    Column("QUEUE", lambda screen, row: _name(screen, row[0]), left=True),
    Column("FILL", lambda screen, row: _fill(screen, row[0]), left=True),
    Column("ITEMS", lambda screen, row: _of_look(lambda look: f"{look.items:,}")(screen, row[0])),
    Column("PUT/s", _rate("put_total")),
    Column("GET/s", _rate("got_total")),
    Column("BLOCKED BY", _blocked, left=True),
    Column("LIVE", lambda screen, row: str(row[0].look.count("alive", "paused", "unknown")) if row[0].look else ""),
    Column("DEAD", lambda screen, row: str(row[0].look.count("dead")) if row[0].look else ""),
    Column("WAITS/s", _waits),
    Column("FULL/s", _rate("full_events")),
    Column("LEASED", lambda screen, row: str(len(row[0].look.leased)) if row[0].look and row[0].look.leases else ""),
)
"""What ``shmq top`` shows."""


def table(screen: Console, columns: Sequence[Column[Row]], rows: Iterable[Row]) -> Table:
    """Return a table that fits the width of a console: what does not fit goes, from the right."""
    cells = [[column.value(screen, row) for column in columns] for row in rows]
    without_limit = screen.options.update(max_width=_WIDE)
    shown = len(columns)
    while True:
        found = _table(columns[:shown], [row[:shown] for row in cells])
        if shown == 1 or Measurement.get(screen, without_limit, found).maximum <= screen.width:
            return found
        shown -= 1


def _table(columns: Sequence[Column[Row]], cells: Iterable[Sequence[RenderableType]]) -> Table:
    found = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1))
    for column in columns:
        found.add_column(column.heading, justify="left" if column.left else "right", no_wrap=True)
    for row in cells:
        found.add_row(*row)
    return found


def summary(queues: Sequence[QueueFile], total: int, left: int) -> str:
    """Return the line below a list."""
    memory = size(sum(queue.memory for queue in queues))
    return f"{number(len(queues), 'queue')}, {memory}; {size(left)} of {size(total)} left"


# ---- one queue ------------------------------------------------------------------------------------------------------


def one_queue(screen: Console, queue: QueueFile, items: Table | None) -> RenderableType:
    """Return all that is known of a queue.

    Args:
        screen: that it is for.
        queue: as a look has found it.
        items: the table of the next items; None if it has none or they cannot be had.
    """
    facts = Table.grid(padding=(0, 2))
    facts.add_column(no_wrap=True)
    facts.add_column(overflow="fold")
    for heading, value in _facts(screen, queue):
        facts.add_row(heading, value)
    parts: list[RenderableType] = [facts]
    if queue.look is not None:
        if queue.look.processes:
            parts += [Text(""), _processes(screen, queue.look)]
        if queue.look.leased:
            parts += [Text(""), _leased(screen, queue.look)]
    if items is not None:
        parts += [Text(""), Text("next items (not taken)"), items]
    title = cell(screen, queue.name)
    if screen.is_terminal:
        title.truncate(screen.width - _AROUND_TITLE, overflow="ellipsis")
    frame = box.ROUNDED if screen.encoding.lower().startswith("utf") else box.ASCII
    return Panel(Group(*parts), title=title, title_align="left", box=frame, expand=False)


def _facts(screen: Console, queue: QueueFile) -> Iterable[tuple[str, RenderableType]]:
    if queue.state != "ok":
        yield "state", cell(screen, f"{queue.state}: {queue.why}", _ALARMS.get(queue.state, ""))
    look = queue.look
    if look is not None:
        fill = bar(screen, look.slots_used / look.capacity, 20)
        used = f"{look.slots_used:,} of {number(look.capacity, 'slot')}"
        yield "items", Text.assemble(fill, f"  {number(look.items, 'item')} in {used}")
        largest = f", items up to {size(look.max_item_size)}" if look.max_item_size > look.item_size else ""
        slots = f"{size(look.item_size)} each, {look.stride:,} bytes apart{largest}, mode {look.mode}"
        yield "slots", f"{slots}; {size(queue.memory)} in memory"
        yield "format", cell(screen, look.serializer)
        yield "positions", f"get {look.head:,}   put {look.tail:,}"
        recovered = f"{look.orphans_recovered:,} taken over from dead gets, {number(look.dead_puts, 'put')} died"
        slots = " (in slots)" if look.max_item_size > look.item_size else ""
        yield "totals", f"{look.put_total:,} put, {look.got_total:,} taken{slots}, {recovered}"
        raised = f"Empty {number(look.empty_events, 'time')}, Full {number(look.full_events, 'time')}"
        yield "waits", f"{look.get_waits:,} for items, {look.put_waits:,} for room; {raised}"
        yield "asleep now", f"perhaps {' and '.join(look.asleep)}" if look.asleep else "none"
        gate = ", and its gate is shut" if look.gate else ""
        yield "batch lock", f"{look.batch_lock}{gate}"
        if look.leases:
            leased = f"{len(look.leased):,} of {look.leases:,} held"
            yield "leases", f"{leased}; {look.redelivered:,} handed out again, {look.lease_waits:,} waits"
        if look.dead_letters:
            yield "dead letters", f"{look.dead_letters:,}"
        if look.bells_refused:
            yield "doorbells", f"{number(look.bells_refused, 'ring')} without an answer"
        marks = [text for text, is_so in _marks(look) if is_so]
        if marks:
            yield "marks", "; ".join(marks)
        for blocker in look.blocked_by:
            yield "blocked by", Text(f"process {blocker.pid}: {blocker.doing} at {blocker.position:,}", style="red")
    yield "in use", _use(queue)
    if queue.look is None:
        yield "memory", f"{size(queue.memory)} of {queue.size:,} bytes"
    by = f" by process {look.creator}" if look is not None else ""
    yield "made", f"{age(clock.real() / 1e9 - queue.created)} ago{by}, for user {queue.uid}"


def _marks(look: QueueLook) -> Iterable[tuple[str, bool]]:
    yield "shut down: no put is accepted", look.shut_down
    yield "goes with its last user", look.delete
    yield "unlinked: no process can attach", look.unlinked


def _use(queue: QueueFile) -> str:
    use = {True: "yes", False: "no", None: "cannot be told"}[queue.in_use]
    if queue.look is None or queue.look.hidden is None:
        return use
    hidden = f" ({number(queue.look.hidden, 'process')} could not be looked at)" if queue.look.hidden else ""
    users = number(queue.look.count("alive", "paused", "unknown"), "process")
    return f"{use}; {users}{hidden}"


def _cut_to_fit(text: Text) -> Text:
    """Return the text of a column that gets the room which the others leave, because it alone may be wrapped."""
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def _processes(screen: Console, look: QueueLook) -> Table:
    blocking = {blocker.pid for blocker in look.blocked_by}
    rows: list[tuple[RenderableType, ...]] = []
    for one in look.processes:
        doing = one.doing or ("nothing" if one.records else "not used yet")
        roles = f"{' and '.join(one.roles)}; " if one.roles else ""
        style = "red" if one.state == "paused" and one.pid in blocking else ""
        state = Text(one.state, style=style)
        rows.append((str(one.pid), str(one.records), state, roles + doing, _cut_to_fit(cell(screen, one.command))))
    return _framed(screen, ("PID", "RECORDS"), ("STATE", "DOING"), "COMMAND", rows)


def _leased(screen: Console, look: QueueLook) -> Table:
    rows = [(f"{one.position:,}", str(one.pid), f"{one.deliveries:,}", age(one.seconds)) for one in look.leased]
    return _framed(screen, ("LEASED", "PID", "DELIVERIES", "SINCE"), (), "", rows)


def _framed(
    screen: Console, right: Sequence[str], left: Sequence[str], cut: str, rows: Sequence[Sequence[RenderableType]]
) -> Table:
    """Return a table for the frame of a queue: what does not fit goes, from the right, so that no number is cut.

    Args:
        screen: that it is for.
        right: headings of columns of numbers.
        left: headings of columns of words behind these.
        cut: heading of the last column, the content of which is cut to fit; "" if there is none.
        rows: the cells.
    """
    fixed = [*right, *left]

    def first(columns: int) -> Table:
        found = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
        for heading in fixed[:columns]:
            found.add_column(heading, justify="right" if heading in right else "left", no_wrap=True)
        if columns > len(fixed):
            found.add_column(cut)
        for row in rows:
            found.add_row(*row[:columns])
        return found

    def width(columns: int) -> int:
        of_fixed = Measurement.get(screen, screen.options.update(max_width=_WIDE), first(min(columns, len(fixed))))
        return of_fixed.maximum + (columns > len(fixed)) * (_BETWEEN + len(cut))

    shown = len(fixed) + bool(cut)
    while shown > 1 and width(shown) > screen.width - _FRAME:
        shown -= 1
    return first(shown)


def items_table(screen: Console, items: Iterable[tuple[QueuedItem, str]]) -> Table:
    """Return the table of items, each with a text that shows its content."""
    found = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for heading in ("POSITION", "BYTES"):
        found.add_column(heading, justify="right", no_wrap=True)
    found.add_column("KIND", no_wrap=True)
    found.add_column("CONTENT")
    for item, content in items:
        length = "" if item.payload is None else f"{len(item.payload):,}"
        kind = "" if item.tag is None else kind_of(item.tag)
        note = f"({item.note}) " if item.note else ""
        found.add_row(f"{item.position:,}", length, kind, _cut_to_fit(cell(screen, note + name(content))))
    return found
