"""The documents: what they name exists, what they show runs, and the table of edges is that of the code.

The prose of documents and code names its actors.
"""

from __future__ import annotations

import ast
import io
import os
import re
import subprocess
import sys
import tokenize
from itertools import count
from pathlib import Path

import pytest

from shared_multiprocess_queue.prometheus import FAMILIES
from tests.support.places import NATIVE, PACKAGE, REPOSITORY

DOCUMENTS = [
    REPOSITORY / "README.md",
    *sorted((REPOSITORY / ".github").glob("*.md")),
    *sorted((REPOSITORY / "docs").rglob("*.md")),
    REPOSITORY / "examples" / "README.md",
]
PEOPLE = re.compile(r"\b(who|whom|whoever|he|him|his|(?:some|any|every|no)body)\b", re.IGNORECASE)
CODE = [path for room in (PACKAGE, REPOSITORY / "stress", REPOSITORY / "tests") for path in room.rglob("*")]
SOURCES = sorted({path for path in CODE if path.suffix in {".py", ".pyi", ".h", ".c"}})
LABEL = re.compile(r"\b([A-Z]\d+)\b")
IN_CODE = re.compile(r"\[([A-Z]\d+)\]")
LABEL_STRING = re.compile(r'\bSHMQ_\w+\(\s*"(\w+)"')  # what the explorers of the C code call the step
NO_EDGE = {"count"}  # the steps that count for metrics, which order nothing
OF_PYTHON = {"X1", "B0"}  # of creation and of doorbells, which have no C


def relative(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def edges() -> dict[str, set[str]]:
    """Return the labels that each edge of the table is paired with; a pair's own row may be empty."""
    found: dict[str, set[str]] = {}
    for line in (REPOSITORY / "docs" / "protocol.md").read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 5 and LABEL.match(cells[0]):
            for label in LABEL.findall(cells[0]):
                found.setdefault(label, set()).update(LABEL.findall(cells[3]))
    return found


def test_the_table_has_the_edges_of_both_engines() -> None:
    table = set(edges())
    python = {label for path in PACKAGE.rglob("*.py") for label in IN_CODE.findall(path.read_text("utf-8"))}
    c = {label for path in PACKAGE.glob("_native/*.[ch]") for label in IN_CODE.findall(path.read_text("utf-8"))}
    assert len(table) > 30
    assert table == python
    assert table - OF_PYTHON == c


def test_the_steps_of_c_have_labels_of_the_table() -> None:
    """In C a label stands twice at a step: in its comment, and as the string that an explorer of the code is told."""
    code = {path.name: path.read_text("utf-8") for path in PACKAGE.glob("_native/*.[ch]")}
    named = {(name, label) for name, text in code.items() for label in LABEL_STRING.findall(text)}
    known = edges().keys() | NO_EDGE
    assert len({label for _, label in named}) > 30
    assert not {(name, label) for name, label in named if label not in known}


def test_every_pair_of_edges_is_named_from_both_ends() -> None:
    table = edges()
    one_sided = sorted(f"{a}->{b}" for a, partners in table.items() for b in partners if a not in table.get(b, ()))
    assert not one_sided


def test_every_test_that_a_document_names_exists() -> None:
    sources = {path.name: path.read_text("utf-8") for path in (REPOSITORY / "tests").rglob("*.py")}
    functions = set(re.findall(r"^(?:async )?def (test_\w+)", "\n".join(sources.values()), re.MULTILINE))
    for document in DOCUMENTS:
        named = set(re.findall(r"\b(test_\w+(?:\.py)?)", document.read_text("utf-8")))
        missing = {name for name in named if name not in sources and name not in functions}
        assert not missing, f"{relative(document)} names tests that are not there: {sorted(missing)}"


def snippets() -> list[object]:
    """Return every block of Python in the documents."""
    found: list[object] = []
    for document in DOCUMENTS:
        blocks = re.findall(r"^```python\n(.*?)^```", document.read_text("utf-8"), re.MULTILINE | re.DOTALL)
        found += [pytest.param(block, id=f"{document.stem}-{i}") for i, block in enumerate(blocks)]
    return found


# What a reader's own program does at its end, and the reader of a document need not be shown each time; it is done even
# if the program fails.
CLEAN_UP = """
import atexit as _atexit
from shared_multiprocess_queue import SharedMemoryQueue as _Queue

@_atexit.register
def _clean_up():
    for value in list(globals().values()):
        if isinstance(value, _Queue) and not value.closed:
            value.close()
            value.unlink()

"""


_numbers = count()


def with_names_of_its_own(snippet: str) -> str:
    """Rename the queues of a snippet, so that it meets no other that runs at the same time."""
    number = next(_numbers)
    return re.sub(r'SharedMemoryQueue\("(\w+)"', rf'SharedMemoryQueue("\1-{os.getpid()}-{number}"', snippet)


@pytest.mark.costly
@pytest.mark.parametrize("snippet", snippets())
def test_what_a_document_shows_runs(snippet: str, tmp_path: Path) -> None:
    program = tmp_path / "snippet.py"
    program.write_text(CLEAN_UP + with_names_of_its_own(snippet), encoding="utf-8")
    command = [sys.executable, "-W", "error", str(program)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    shown = re.findall(r"^ *print\(.*\)\s+# (.*)$", snippet, re.MULTILINE)
    assert done.stdout.splitlines() == shown


def test_snippets_are_found() -> None:
    assert len(snippets()) >= 2


def test_every_link_between_documents_leads_somewhere() -> None:
    for document in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text("utf-8")):
            assert (document.parent / target).exists(), f"{relative(document)} links to {target}"


def test_every_page_is_linked_from_a_page_that_a_reader_finds() -> None:
    """A reader begins with README and follows links to pages; a link to a folder names none."""
    found: set[Path] = set()
    new = {(REPOSITORY / "README.md").resolve()}
    while new:
        found |= new
        links = {
            (page.parent / target).resolve()
            for page in new
            for target in re.findall(r"\]\(([^)#:]+\.md)(?:#[^)]*)?\)", page.read_text("utf-8"))
        }
        new = links - found
    assert not [relative(page) for page in DOCUMENTS if page.resolve() not in found]


def test_the_figure_of_the_architecture_has_every_module() -> None:
    figure = (REPOSITORY / "docs" / "architecture.md").read_text("utf-8").split("```")[1]
    shown, room = [], ""
    for line in figure.splitlines():
        if found := re.match(r"(\w+/)", line):
            room = found[1]
        elif found := re.match(r"( *)([\w]+\.\w+)", line):
            shown.append(room + found[2] if found[1] else found[2])
    there = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*") if path.suffix in {".py", ".h", ".c"}}
    assert sorted(shown) == sorted(name for name in there if "__" not in name)


def code_of(folder: Path) -> str:
    """Return the code below a folder, in one text."""
    return "\n".join(path.read_text("utf-8") for path in folder.rglob("*") if path.suffix in {".py", ".h", ".c"})


def test_the_code_uses_every_word_of_the_glossary() -> None:
    """The package does, and the stress kit the words of the last section."""
    package, proofs = (REPOSITORY / "docs" / "glossary.md").read_text("utf-8").split("## The proofs")
    for text, folder, fewest in ((package, PACKAGE, 50), (proofs, REPOSITORY / "stress", 2)):
        glossary, code = re.findall(r"\*\*([\w ]+)\*\*", text), code_of(folder)
        assert len(glossary) >= fewest
        unused = [
            word for word in glossary if not re.search(rf"(?<![a-z]){word.replace(' ', '[_ ]?')}", code, re.IGNORECASE)
        ]
        assert not unused, relative(folder)


def prose_of(path: Path) -> str:
    """Return a document, or the comments and docstrings of a source file; the text of strings and code is left out."""
    text = path.read_text("utf-8")
    if path.suffix in {".h", ".c"}:
        return "\n".join(re.findall(r"/\*.*?\*/", text, re.DOTALL))
    if path.suffix not in {".py", ".pyi"}:
        return text
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    comments = [token.string for token in tokens if token.type == tokenize.COMMENT]
    statements = [node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Expr)]
    return "\n".join(comments + [str(it.value) for it in statements if isinstance(it, ast.Constant)])


def test_the_actor_of_a_sentence_is_a_noun() -> None:
    """No pronoun stands for an actor: a reader has to know which process, thread or handle is meant."""
    assert len(SOURCES) > 300
    suspects = [path for path in [*DOCUMENTS, *SOURCES] if PEOPLE.search(path.read_text("utf-8"))]
    lines = [(relative(path), line) for path in suspects for line in prose_of(path).splitlines()]
    assert [(path, line) for path, line in lines if PEOPLE.search(line)] == []


def test_the_prose_of_code_is_found(tmp_path: Path) -> None:
    python, c = tmp_path / "some.py", tmp_path / "some.c"
    python.write_text('"""one"""\nx = "two"  # three\ndef f():\n    """four"""\n', encoding="utf-8")
    c.write_text('/* one\n two */ char *s = "three"; /* four */\n', encoding="utf-8")
    assert prose_of(python).split() == ["#", "three", "one", "four"]
    assert prose_of(c).split() == ["/*", "one", "two", "*/", "/*", "four", "*/"]


def test_lines_have_a_length_that_fits_beside_others() -> None:
    lines = [(relative(document), line) for document in DOCUMENTS for line in document.read_text("utf-8").splitlines()]
    assert [(name, line) for name, line in lines if len(line) > 120 and not line.lstrip().startswith("|")] == []


def test_every_function_of_c_that_is_named_exists() -> None:
    """In documents, models and the heads of planted bugs. What is not one of C is a metric."""
    metrics = {f"shmq_{one.name}{'_total' * one.is_counter}" for one in FAMILIES}
    code = {name for path in NATIVE.glob("*.[ch]") for name in re.findall(r"\bshmq_\w+", path.read_text("utf-8"))}
    kit = REPOSITORY / "stress"
    texts = [*DOCUMENTS, *kit.rglob("*.pml"), kit / "planted" / "models.txt"]
    named = {name: relative(path) for path in texts for name in re.findall(r"\bshmq_\w+", path.read_text("utf-8"))}
    assert len(named) > 20
    assert {name: where for name, where in named.items() if name not in code | metrics} == {}


def test_every_recipe_that_is_named_exists() -> None:
    recipes = set(re.findall(r"^recipe_(\w+)\(\)", (REPOSITORY / ".ci" / "run").read_text("utf-8"), re.MULTILINE))
    for path in [*DOCUMENTS, *(REPOSITORY / ".github" / "workflows").glob("*.yml")]:
        named = set(re.findall(r"\.ci/run ([a-z]+)", path.read_text("utf-8")))
        assert named <= recipes, relative(path)
