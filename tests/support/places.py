"""Where things lie. The package may be installed elsewhere than where these tests and their documents are."""

from __future__ import annotations

from pathlib import Path

import shared_multiprocess_queue

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = Path(shared_multiprocess_queue.__file__).parent
NATIVE = PACKAGE / "_native"
SHM = Path("/dev/shm")
