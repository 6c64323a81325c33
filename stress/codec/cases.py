"""A program: items through all writers and readers, whole and damaged.

    python -m stress.codec.cases CASES SEED

The module ``plain_codec``, which is built of the native engine's headers, has to be on the path.
"""

from __future__ import annotations

import gc
import importlib
import pickle
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, Final

from shared_multiprocess_queue._codec import plain

from .drawing import draw
from .likeness import alike
from .writer import write as write_in_python

_ROOMY: Final = 1 << 20
_CASES_WITH_GARBAGE: Final = 64  # in every case of this number a collection may come at any time
_DAMAGES: Final = 3
_DEEP: Final = (b"\xd1", b"\xe1", b"\xc1\x01", b"\xf9\x01\0\0\0" if sys.byteorder == "little" else b"\xf9\0\0\0\x01")
_GREEDY: Final = 20_000  # bytes
_MOST_EACH: Final = 100  # bytes of memory for each; an empty list is one byte, and takes 56
_ERRORS: Final = (ValueError, TypeError, ArithmeticError)  # no MemoryError: damaged bytes ask for little


CORPUS: Final = Path(__file__).with_name("corpus.txt")


class FindingError(Exception):
    """A case that went wrong."""


def _outcome(read: Callable[[bytes], Any], payload: bytes) -> tuple[bool, Any]:
    try:
        return True, read(payload)
    except _ERRORS as error:
        return False, error


def damaged(payload: bytes, rng: Random) -> bytes:
    """Return the bytes of an item with some damage."""
    data = bytearray(payload)
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(6):
            case 0:
                del data[at:]
            case 1:
                del data[at : at + 1]
            case 2:
                data[at:at] = bytes([rng.randrange(256)])
            case 3:
                data[at:at] = data[rng.randrange(len(data) + 1) :][: rng.randrange(12)]
            case 4:
                data[at : at + 4] = rng.choice((0, 1, 2, 0x7FFFFFFF, 0xFFFFFFFF, len(data))).to_bytes(4, sys.byteorder)
            case _:
                data[at : at + 1] = bytes([rng.choice((rng.randrange(256), rng.randrange(0xE0, 0x100)))])
    return bytes(data)


def run_case(codec: Any, rng: Random) -> None:
    """Draw an item, and compare what all writers and readers make of it.

    Raises:
        FindingError: they differ.
    """
    item = draw(rng)
    expected = pickle.loads(pickle.dumps(item, 5))
    written = codec.write(item, _ROOMY)
    if written != write_in_python(item, _ROOMY):
        raise FindingError(f"the writers differ: {written!r}")
    if written is None:
        return
    if codec.write(item, len(written)) != written or codec.write(item, len(written) - 1) is not None:
        raise FindingError("the writer does not keep to its limit")
    for reader in (codec.read, plain.read):
        read = reader(written)
        if not alike(read, expected):
            raise FindingError(f"{reader.__module__} reads something else than pickle: {read!r}")
    for _ in range(_DAMAGES):
        run_damaged(codec, damaged(written, rng))


def run_damaged(codec: Any, payload: bytes) -> None:
    """Compare what both readers make of any bytes.

    Raises:
        FindingError: they differ.
    """
    (native, one), (python, other) = _outcome(codec.read, payload), _outcome(plain.read, payload)
    if native != python or (native and not alike(one, other)):
        raise FindingError(f"the readers differ: {one!r} and {other!r}, of {payload!r}")


def greedy(length: int) -> bytes:
    """Return bytes that say, again and again, that all of them are elements of one more tuple."""
    depth = plain.DEPTH - 1
    counts = (length - 5 * (number + 1) for number in range(depth))
    return b"".join(b"\xf6" + count.to_bytes(4, sys.byteorder) for count in counts) + bytes(length - 5 * depth)


def run_greedy(codec: Any) -> None:
    """Read bytes that ask for more and more memory.

    Raises:
        FindingError: they get it.
    """
    tracemalloc.start()
    (native, _), (python, _) = (_outcome(reader.read, greedy(_GREEDY)) for reader in (codec, plain))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    if native or python or most > _GREEDY * _MOST_EACH:
        raise FindingError(f"{_GREEDY:,} bytes were read, or got {most:,} bytes of memory")


def read_corpus() -> list[bytes]:
    """Return the inputs that the fuzzer has found, and that are kept."""
    return [bytes.fromhex(line) for line in CORPUS.read_text("utf-8").splitlines()]


def main(cases: int, seed: int) -> None:
    """Run cases."""
    codec = importlib.import_module("plain_codec")
    usual = gc.get_threshold()
    number = -1
    try:
        run_greedy(codec)
        for payload in (*(head * (plain.DEPTH + 1) + b"\x01" for head in _DEEP), *read_corpus()):
            run_damaged(codec, payload)
        for number in range(cases):
            rng = Random(f"{seed}/{number}")
            gc.set_threshold(*((1,) if number % _CASES_WITH_GARBAGE == 0 else usual))
            run_case(codec, rng)
            run_damaged(codec, rng.randbytes(rng.randrange(40)))
    except FindingError as finding:
        sys.exit(f"FAILED: {f'case {number} of seed {seed}' if number >= 0 else 'the corpus'}: {finding}")
    print(f"{cases:,} cases")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
