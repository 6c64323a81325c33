"""Log records of all processes in one file, in the order in which they were put."""

import logging
import tempfile
from multiprocessing import Process
from pathlib import Path
from typing import Any

from shared_multiprocess_queue import SharedMemoryQueue
from shared_multiprocess_queue.logging import listen, send_to


def work(logs: SharedMemoryQueue[Any], number: int) -> None:
    send_to(logs, logging.INFO)
    logging.info("begins")
    try:
        logging.info("the result is %s", 1 / number)
    except ZeroDivisionError:
        logging.exception("fails")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "app.log")
        handler = logging.FileHandler(path)
        handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
        with listen(handler) as listener:  # the end of the block waits for all records
            workers = [Process(target=work, args=(listener.queue, number)) for number in range(2)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
        handler.close()
        text = path.read_text()
    print(text.count("INFO begins"), text.count("INFO the result is 1.0"), text.count("ZeroDivisionError"))  # 2 1 1
