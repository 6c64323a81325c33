"""A codec, its store, and programs for this process and for others."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest

from shared_multiprocess_queue._codec import codec as _codec
from shared_multiprocess_queue._codec.codec import Codec
from tests.support.main_programs import DictStore, Enter
from tests.support.program_zoo import OTHER, OWN, VALUES, WIRE, ZOO, ZOO_MAIN


@pytest.fixture
def store() -> DictStore:
    return DictStore()


@pytest.fixture
def codec(store: DictStore) -> Codec:
    return Codec(store)


@pytest.fixture
def enter(monkeypatch: pytest.MonkeyPatch) -> Enter:
    """Make this process run another program: ``enter(source, file)`` replaces its ``__main__``.

    Definitions of classes that this process has made itself come back as these very classes, as cloudpickle remembers
    them. Whether a class was built from a definition is therefore a matter for tests with real processes.
    """

    def enter(source: str, file: str | None = None) -> types.ModuleType:
        main = types.ModuleType("__main__")
        if file is not None:
            main.__file__ = file
        monkeypatch.setitem(sys.modules, "__main__", main)
        monkeypatch.setitem(sys.modules, "__mp_main__", main)
        exec(source, main.__dict__)
        return main

    # What these programs leave behind must not be known to the next test.
    monkeypatch.setattr(_codec, "_known", _codec._Known())
    return enter


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("programs")
    checks = f"VALUES = {VALUES!r}\nOWN = {OWN!r}\ndef json_dump(x):\n    import json\n    print(json.dumps(x))\n"
    (folder / "wire.py").write_text(WIRE + checks)
    (folder / "zoo.py").write_text(ZOO + ZOO_MAIN)
    (folder / "other.py").write_text(OTHER)
    return folder
