"""Where things lie."""

from __future__ import annotations

from pathlib import Path

import shared_multiprocess_queue

PACKAGE = Path(shared_multiprocess_queue.__file__).parent
REPOSITORY = PACKAGE.parent
NATIVE = PACKAGE / "_native"
SHM = Path("/dev/shm")
