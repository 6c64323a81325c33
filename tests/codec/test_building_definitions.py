"""A definition is built once and whole, whatever happens meanwhile."""

from __future__ import annotations

from pathlib import Path

from tests.support.program_zoo import run

SLOW = """
import time
class Base:
    def __init_subclass__(cls):
        time.sleep(0.5)
class Late(Base):
    pass
def slow(kind=Late):
    pass
write(sys.argv[1], {"slow": slow})
"""


def test_a_failed_build_leaves_nothing_half_made(folder: Path) -> None:
    (folder / "needy.py").write_text("""
import sys
from wire import *
class Needy:
    size = 1
    def use(self):
        return helper()
def helper():
    return 42
write(sys.argv[1], {"needy": Needy()})
""")
    run(folder / "needy.py", folder / "needy.letter", folder=folder)
    (folder / "fails.py").write_text("""
import sys
from wire import *
encoded, definitions = pickle.load(open(sys.argv[1], "rb"))
answers = []
[helper] = [key for key, definition in definitions.items() if b"Needy" not in definition]
for store in (DictStore({key: text for key, text in definitions.items() if key != helper}), DictStore(definitions)):
    try:
        answers.append(Codec(store).decode(*encoded["needy"]).use())
    except Exception as error:
        answers.append("'helper'" in str(error))
json_dump(answers)
""")
    assert run(folder / "fails.py", folder / "needy.letter", folder=folder) == [True, 42]


def test_threads_that_need_one_definition_at_once_build_one_object(folder: Path) -> None:
    (folder / "slow.py").write_text("import sys\nfrom wire import *\n" + SLOW)
    run(folder / "slow.py", folder / "slow.letter", folder=folder)
    (folder / "threads.py").write_text("""
import sys, threading
from wire import *
found, complete = [], []
def look():
    function = read(sys.argv[1])["slow"]
    complete.append([kind.__name__ for kind in function.__defaults__ or ()] == ["Late"])
    found.append(function)
threads = [threading.Thread(target=look) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
json_dump([complete, len({id(function) for function in found})])
""")
    assert run(folder / "threads.py", folder / "slow.letter", folder=folder) == [[True] * 4, 1]


def test_a_child_forked_while_a_thread_builds_is_not_blocked_by_it(folder: Path) -> None:
    (folder / "slow.py").write_text("import sys\nfrom wire import *\n" + SLOW)
    run(folder / "slow.py", folder / "slow.letter", folder=folder)
    (folder / "forks.py").write_text("""
import os, signal, sys, threading, time
from wire import *
thread = threading.Thread(target=read, args=(sys.argv[1],))
thread.start()
time.sleep(0.2)
child = os.fork()
if child == 0:
    signal.alarm(20)
    os._exit(42 if callable(read(sys.argv[1])["slow"]) else 1)
json_dump(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
thread.join()
""")
    assert run(folder / "forks.py", folder / "slow.letter", folder=folder) == 42
