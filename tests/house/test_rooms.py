"""The rooms and doors of the package: what may be imported where, read from the source."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache

import shared_multiprocess_queue
from tests.support.places import PACKAGE, REPOSITORY

NAME = shared_multiprocess_queue.__name__
MODULES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))
PROGRAMS = {
    "cli/demo_counting.py",
    "cli/demo.py",
    "cli/demo_command.py",
}  # they stand outside; they may know the time and look into pickles
SCREENS = {
    f"cli/{name}.py"
    for name in ("bench", "bridge", "doctor", "metrics_command", "looks", "output", "removals", "screens", "top")
}


# What each room may import besides itself, and besides errors.py, which every room may raise. Downwards only.
ROOMS: dict[str, set[str]] = {
    "cli": {
        *{"drained.py", "draining.py", "prometheus.py", "queue.py", "remote.py", "bridge.py"},
        *{"_remote", "looking", "_engine", "_platform", "__init__.py"},
    },
    "bridge.py": {"like.py", "queue.py", "remote.py", "_remote", "_ring", "_platform"},
    "like.py": {"queue.py", "remote.py"},
    "remote.py": {"_remote", "_engine", "_platform"},
    "drained.py": {"_engine", "_ring", "_codec"},
    "draining.py": {"queue.py", "_engine", "_ring", "_codec", "_platform"},
    "prometheus.py": {"looking"},
    "logging.py": {"swap.py", "queue.py"},
    "looking": {"_engine", "_ring", "_codec", "_platform"},
    "swap.py": {"queue.py", "_ring", "_platform"},
    "queue.py": {"_engine", "_codec", "_ring", "_platform"},
    "_remote": {"_engine", "_codec", "_native", "_platform"},
    "_engine": {"_ring", "_codec", "_native", "_platform"},
    "_ring": {"_platform"},
    "_codec": {"_platform"},
    "_platform": set(),
}


# Each outside thing enters through one module.
DOORS: dict[str, set[str]] = {
    "atomics": {"_platform/atomic_words.py", "_platform/package_mutex.py"},
    # How a class is serialised by value: in items by cloudpickle, in definitions without data. These share the ids by
    # which cloudpickle knows a class that has no name.
    "cloudpickle": {"_codec/codec.py", "_codec/definitions.py", "_codec/shipped.py"},
    # The numbers of a tensor are a PickleBuffer, and so is memory that is lent.
    "pickle": {
        "_codec/codec.py",
        "_codec/definitions.py",
        "_codec/reducers.py",
        "_codec/shipped.py",
        "_platform/lent_memory.py",
        *PROGRAMS,
    },
    "redis": {"_remote/finding.py", "_remote/link.py", "_remote/task_link.py", "_remote/trouble.py", "_remote/wire.py"},
    "zlib": {"_codec/deflate.py"},
    "datetime": {"_codec/plain.py", *PROGRAMS},
    "decimal": {"_codec/plain.py"},
    "uuid": {"_codec/plain.py"},
    "pathlib": {"cli/doctor.py", *PROGRAMS},  # slow to import
    "pickletools": {"looking/previews.py", *PROGRAMS},
    "prometheus_client": {"prometheus.py", "cli/metrics_command.py"},
    "json": {"cli/output.py"},
    "click": {"cli/app.py", "cli/demo_command.py", *SCREENS},
    "rich": {"cli/demo_command.py", *SCREENS},
    "termios": {"cli/top.py"},
    "time": {"_platform/clock.py", *PROGRAMS},
    "multiprocessing.reduction": {"_codec/reducers.py"},
    "multiprocessing.shared_memory": {"_platform/shared_memory.py"},
    "_posixshmem": {"_platform/shared_memory.py"},
    "fcntl": {"_platform/shared_memory.py", "_platform/use_lock.py"},
    "mmap": {"_platform/shared_memory.py", "_platform/memory.py"},
    "resource": {"_platform/shared_memory.py", "cli/doctor.py"},
    "select": {"_platform/bells.py", "cli/removals.py", "cli/top.py"},
    # Addresses of the segment, memory whose end is told, and the system calls that Python has no functions for. A
    # ctypes array of an item is the reducers' affair.
    "ctypes": {
        "_platform/shared_memory.py",
        "_platform/atomic_words.py",
        "_platform/memory.py",
        "_platform/futex.py",
        "_platform/bells.py",
        "_ring/parking.py",
        "_codec/reducers.py",
    },
    "shared_memory_lock": {"_platform/package_mutex.py"},
    "socket": {"_platform/bells.py", "_remote/wire.py"},
    "asyncio": {
        "_engine/awaiting.py",
        "_engine/tasks.py",
        "_remote/handle.py",
        "_remote/task_link.py",
    },  # slow to import
    "psutil": {"_platform/processes.py"},
}


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse((PACKAGE / module).read_text(encoding="utf-8"), module)


def for_types_only(module: str) -> set[ast.AST]:
    """Return the nodes below ``if TYPE_CHECKING``, which never run."""
    found: set[ast.AST] = set()
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            found.update(inner for statement in node.body for inner in ast.walk(statement))
    return found


def outside_imports(module: str) -> Iterator[tuple[str, ast.stmt]]:
    """Yield the dotted name of everything that a module imports from outside, wherever in it."""
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            for alias in node.names:
                yield f"{node.module}.{alias.name}", node


def is_within(name: str, door: str) -> bool:
    return name == door or name.startswith(f"{door}.")


@cache
def inside_imports(module: str) -> set[str]:
    """Return the modules of this package that a module imports."""
    skipped = for_types_only(module)
    here = [NAME, *module.split("/")[:-1]]
    found: set[str] = set()
    for node in ast.walk(tree_of(module)):
        if node in skipped:
            continue
        names: list[str] = []
        if isinstance(node, ast.ImportFrom):
            base = ".".join([*here[: len(here) - node.level + 1], *([node.module] if node.module else [])])
            base = base if node.level else node.module or ""
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        paths = [name.removeprefix(NAME).strip(".").replace(".", "/") for name in names if is_within(name, NAME)]
        modules = [f"{path}.py" for path in paths if f"{path}.py" in MODULES]
        if "_native/extension" in paths:
            modules.append("_native/extension.py")
        # Otherwise a name of the package itself, such as __version__.
        found.update(modules or [f"{path}/__init__.py".lstrip("/") for path in paths[:1]])
    return found - {module}


def room_of(module: str) -> str:
    return module.partition("/")[0]


def code_strings(module: str) -> Iterator[str]:
    """Yield the strings of a module that are not docstrings."""
    documentation = {
        id(node.body[0].value)
        for node in ast.walk(tree_of(module))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            yield node.value


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def names_in(module: str) -> set[str]:
    """Return the names in the code of a module, dotted ones whole."""
    return {dotted(node) for node in ast.walk(tree_of(module)) if isinstance(node, ast.Name | ast.Attribute)}


def test_the_modules_are_seen() -> None:
    assert {"__init__.py", "queue.py", "_platform/atomic_words.py", "_ring/layout.py"} <= set(MODULES)
    assert "atomics" in {name for name, _ in outside_imports("_platform/atomic_words.py")}
    assert {"_ring/layout.py", "_platform/atomic_words.py", "errors.py"} <= inside_imports("_ring/ring.py")
    assert "_native/extension.py" in inside_imports("_engine/native.py")
    assert "os.kill" in names_in("_platform/processes.py")


def test_a_room_imports_from_below_only() -> None:
    face = {"__init__.py", "__main__.py"}  # what they show comes from anywhere
    above = {
        (module, other)
        for module in MODULES
        if (room := room_of(module)) not in face
        for other in inside_imports(module)
        if room_of(other) not in ROOMS.get(room, set()) | {room, "errors.py"}
    }
    assert above == set()


def test_the_table_of_rooms_points_one_way() -> None:
    assert set(ROOMS) >= {room_of(module) for module in MODULES} - {
        "__init__.py",
        "__main__.py",
        "_native",
        "errors.py",
    }
    graphlib.TopologicalSorter({room: below - {"__init__.py"} for room, below in ROOMS.items()}).prepare()


def test_an_outside_thing_enters_through_its_door_only() -> None:
    imported = [(module, name) for module in MODULES for name, _ in outside_imports(module)]
    users = {(door, module) for door in DOORS for module, name in imported if is_within(name, door)}
    assert users - {(door, module) for door, modules in DOORS.items() for module in modules} == set()


def test_what_is_slow_to_import_waits_until_it_is_needed() -> None:
    slow = {"atomics", "cffi", "cloudpickle", "dataclasses", "dis", "inspect", "shared_memory_lock", "zlib"}
    slow |= {"redis", "asyncio", f"{NAME}.remote"}
    slow |= {"datetime", "decimal", "uuid", "logging", f"{NAME}._codec.plain", f"{NAME}.looking", f"{NAME}.logging"}
    program = f"import sys; before = set(sys.modules); import {NAME}; print({slow} & set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_only_the_module_for_it_asks_whether_processes_live() -> None:
    for module in set(MODULES) - PROGRAMS - {"_platform/processes.py"}:
        assert not [text for text in code_strings(module) if "/proc" in text.replace("/proc/meminfo", "")], module
        assert not names_in(module) & {"os.kill", "os.killpg", "os.pidfd_open", "signal.pthread_kill"}, module
        imported = {name for name, _ in outside_imports(module)}
        assert not imported & {"os.kill", "os.killpg", "os.pidfd_open"}, module


def test_the_core_asks_nobody_but_the_clock_for_the_time() -> None:
    """Deadlines on any other clock would jump if the time of day is set."""
    for module in set(MODULES) - PROGRAMS - {"_platform/clock.py"}:
        names = {name.partition(".")[0] for name, _ in outside_imports(module)}
        if module == "_codec/plain.py":
            names.discard("datetime")  # it makes dates and times, and asks for none
        assert not names & {"time", "datetime", "sched"}, module


def test_there_is_no_circle_of_imports() -> None:
    graph = {module: inside_imports(module) for module in MODULES}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the cycle


def test_the_codec_for_strangers_imports_nothing_that_leads_to_pickle() -> None:
    found: set[str] = set()
    new = {"_codec/plain_codec.py"}
    while new:
        found |= new
        new = {other for module in new for other in inside_imports(module)} - found
    assert "_codec/plain.py" in found
    ways_out = {"by_value", "codec", "definitions", "deflate", "formats", "reducers"}
    assert not found & {f"_codec/{name}.py" for name in ways_out}
    outside = {name for module in found for name, _ in outside_imports(module)}
    doors = ("pickle", "marshal", "cloudpickle", "zlib", "multiprocessing.reduction", "importlib")
    assert not {name for name in outside if any(is_within(name, door) for door in doors)}


def test_the_layout_imports_nothing_of_ours() -> None:
    assert inside_imports("_ring/layout.py") == set()


def test_the_ring_never_learns_where_its_memory_came_from() -> None:
    assert not inside_imports("_ring/ring.py") & {"_platform/shared_memory.py", "_platform/clock.py"}


def test_nothing_but_the_command_prints() -> None:
    for module in set(MODULES) - PROGRAMS - {"__main__.py"}:
        assert not names_in(module) & {"print", "sys.stdout.write", "sys.stderr.write"}, module


def test_importing_the_package_leaves_out_what_only_the_command_needs() -> None:
    code = (
        "import sys; before = set(sys.modules); import shared_multiprocess_queue; "
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before}))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True, stdin=subprocess.DEVNULL
    )
    imported = set(result.stdout.split())
    assert NAME in imported
    assert not imported & {"click", "rich", "hypothesis", "pytest", "numpy"}
    assert result.stderr == ""


def test_everything_public_is_exported_and_there() -> None:
    exported = shared_multiprocess_queue.__all__
    assert len(exported) == len(set(exported))
    assert all(hasattr(shared_multiprocess_queue, name) for name in exported)
    errors = {
        name
        for name, value in vars(shared_multiprocess_queue.errors).items()
        if isinstance(value, type)
        and issubclass(value, shared_multiprocess_queue.SharedMemoryQueueError | type(None))
        and not name.startswith("_")
    }
    # An argument that can never work is a ValueError; the other should be reported, not caught.
    mine = {"ArgumentError", "ClaimLostError"}
    assert mine <= errors
    assert errors - mine <= set(exported), "an error that users may have to catch is not exported"
    assert not mine & set(exported)


def test_every_header_of_the_extension_belongs_to_it() -> None:
    """One that is left out is not in the source distribution, and a changed one builds nothing anew."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    (extension,) = project["tool"]["setuptools"]["ext-modules"]
    headers = [f"{NAME}/_native/{path.name}" for path in (PACKAGE / "_native").glob("*.h")]
    assert sorted(extension["depends"]) == sorted(headers)
