"""Frames of a camera that are written and looked at in the memory of the queue: nothing is copied."""

from multiprocessing import Process
from typing import Any

import numpy as np

from shared_multiprocess_queue import SharedMemoryQueue, ShutDown

SHAPE = HEIGHT, WIDTH, COLORS = 480, 640, 3
SIZE = HEIGHT * WIDTH * COLORS  # bytes


def film(frames: SharedMemoryQueue[Any]) -> None:
    for number in range(20):
        with frames.reserve(SIZE) as memory:  # the frame is put at the end of the block
            image: np.ndarray = np.frombuffer(memory, np.uint8).reshape(SHAPE)
            image[:] = number
            del image  # behind the block nothing may refer to the memory
    frames.shutdown()


def brightness_of_next(frames: SharedMemoryQueue[Any]) -> float:
    with frames.view() as memory:  # its slot is free at the end of the block: take milliseconds, or copy
        return float(np.frombuffer(memory, np.uint8).mean())


if __name__ == "__main__":
    # With 48 bytes more than it takes, the memory of each frame begins at a line of the cache.
    frames: SharedMemoryQueue[Any] = SharedMemoryQueue(capacity=4, item_size=SIZE + 48)
    camera = Process(target=film, args=(frames,))
    camera.start()
    brightness = []
    try:
        while True:  # would wait for ever if the camera were killed; view(timeout=...) would not
            brightness.append(brightness_of_next(frames))
    except ShutDown:
        pass
    camera.join()
    print(len(brightness), brightness[-1])  # 20 19.0
