"""The command shmq: run in this process, with its output checked."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any, NamedTuple

import jsonschema
from click.testing import CliRunner

from shared_multiprocess_queue.cli.app import main
from tests.support.places import REPOSITORY

_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")  # all but the end of a line


class Answer(NamedTuple):
    """What a command has printed, and its exit code."""

    code: int
    output: str
    errors: str


def shmq(*arguments: object, answer: str = "") -> Answer:
    """Run a command; nothing that it prints moves the cursor, whatever the names."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], input=answer, catch_exceptions=False)
    assert not _CONTROL.search(result.stdout), result.stdout
    assert not _CONTROL.search(result.stderr), result.stderr
    return Answer(result.exit_code, result.stdout, result.stderr)


def shmq_json(*arguments: object, code: int = 0) -> Any:
    """Run a command with --json; return the object, which is as the schema says, and has no key that is not in it."""
    answer = shmq(*arguments, "--json")
    assert answer.code == code, answer
    (line,) = answer.output.splitlines()
    found = json.loads(line)
    check(found)
    return found


def check(found: Any) -> None:
    """Check an object with the schema."""
    jsonschema.Draft202012Validator(_schema()).validate(found)


@cache
def _schema() -> Any:
    return _strict(json.loads((REPOSITORY / "docs" / "tools" / "schema.json").read_text("utf-8")))


def _strict(schema: Any) -> Any:
    """Return a schema that allows no other keys."""
    if isinstance(schema, list):
        return [_strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _strict(part) for key, part in schema.items()}
    return {**found, "additionalProperties": False} if schema.get("type") == "object" else found
