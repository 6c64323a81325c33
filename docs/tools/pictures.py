"""Make the pictures of tools.md from real queues and the real program: python docs/tools/pictures.py."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from rich.console import Console, RenderableType

from shared_multiprocess_queue import Empty, Full, SharedMemoryQueue, list_queues
from shared_multiprocess_queue.cli import screens
from shared_multiprocess_queue.looking.items import Items
from shared_multiprocess_queue.looking.previews import preview
from shared_multiprocess_queue.looking.rates import Changes

FOLDER = Path(__file__).parent
WIDTH = 118
PATTERN = "app-*"
SIZES = {"app-logs": (5000, 256), "app-old": (100, 1024), "app-results": (200, 4096), "app-tasks": (1000, 512)}


def produce(name: str, pause: float) -> None:
    """Put until the end, and drop what finds no room."""
    queue: SharedMemoryQueue[dict[str, object]] = SharedMemoryQueue(name)
    number = 0
    while True:
        number += 1
        with suppress(Full):
            queue.put({"path": f"a{number}.py", "size": number}, timeout=0.01)
        time.sleep(pause)


def consume(name: str, pause: float) -> None:
    """Take until the end."""
    queue: SharedMemoryQueue[dict[str, object]] = SharedMemoryQueue(name)
    while True:
        with suppress(Empty):
            if queue.leases:
                with queue.lease(timeout=0.5):
                    time.sleep(pause)
            else:
                queue.get(timeout=0.5)
                time.sleep(pause)


@contextmanager
def at_work() -> Iterator[None]:
    """Have queues, and processes that use them."""
    with ExitStack() as stack:
        for name, (capacity, item_size) in SIZES.items():
            leases = 8 if name == "app-tasks" else 0
            queue: SharedMemoryQueue[dict[str, object]] = SharedMemoryQueue(
                name, create=True, capacity=capacity, item_size=item_size, leases=leases
            )
            stack.callback(queue.unlink)
            for number in range(capacity // 8):
                queue.put({"path": f"{number}.py", "size": number})
            if name == "app-old":
                queue.close()
            else:
                stack.callback(queue.close)
        for work, name, pause in (
            ("produce", "app-logs", 0.001),
            ("consume", "app-logs", 0.002),
            ("produce", "app-results", 0.001),
            ("consume", "app-results", 0.001),
            ("produce", "app-tasks", 0.0001),
            ("produce", "app-tasks", 0.0001),
            ("consume", "app-tasks", 0.001),
            ("consume", "app-tasks", 0.01),
            ("consume", "app-tasks", 0.01),
        ):
            command = ["python", "pictures.py", work, name, str(pause)]
            process = subprocess.Popen(command, executable=sys.executable, cwd=FOLDER)
            stack.callback(process.wait)
            stack.callback(process.kill)
        time.sleep(6)  # so that there is something to see
        process.kill()  # the last of them
        process.wait()
        yield


def picture(name: str, title: str, *parts: RenderableType) -> None:
    """Write a picture of what the program prints."""
    screen = Console(record=True, width=WIDTH, force_terminal=True, color_system="truecolor", file=io.StringIO())
    screen.print(*parts, sep="\n")
    fonts_of_others = re.compile(r"@font-face \{.*?\}", re.DOTALL)
    svg = fonts_of_others.sub("", screen.export_svg(title=title, unique_id=name))
    (FOLDER / f"{name}.svg").write_text(re.sub(r"[ \t]+$", "", svg, flags=re.MULTILINE), encoding="utf-8")


def main() -> None:
    """Make all pictures."""
    screen = Console(width=WIDTH, force_terminal=True, file=io.StringIO())
    with at_work():
        queues = list_queues(PATTERN)
        picture("ls", "shmq ls", screens.table(screen, screens.LIST, queues))
        changes = Changes()
        changes.note(queues)
        time.sleep(1)
        queues = list_queues(PATTERN)
        changed = changes.note(queues)
        picture("top", "shmq top", screens.table(screen, screens.TOP, [(one, changed[one.name]) for one in queues]))
        (tasks,) = list_queues("app-tasks")
        items = Items("app-tasks")
        shown = [
            (one, preview(one.payload or b"", one.tag or 0, items.geometry.max_item_size)) for one in items.next(3)
        ]
        items.close()
        picture("show", "shmq show app-tasks", screens.one_queue(screen, tasks, screens.items_table(screen, shown)))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        {"produce": produce, "consume": consume}[sys.argv[1]](sys.argv[2], float(sys.argv[3]))
    else:
        main()
