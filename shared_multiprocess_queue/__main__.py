"""``python -m shared_multiprocess_queue`` is ``shmq``."""

from .cli import main

if __name__ == "__main__":
    main()
