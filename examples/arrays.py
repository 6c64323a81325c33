"""Frames of a camera: an array is copied into the queue and out of it, and does not go through the pickle."""

from multiprocessing import Process
from typing import Any

import numpy as np

from shared_multiprocess_queue import SharedMemoryQueue

HEIGHT, WIDTH = 480, 640


def film(frames: SharedMemoryQueue[dict[str, Any]]) -> None:
    image: np.ndarray = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for number in range(20):
        image[:] = number  # may be changed as soon as put has returned
        frames.put({"number": number, "image": image})
    frames.shutdown()


if __name__ == "__main__":
    # The bytes of the image, and some for what is around it. A queue of four frames takes 3.7 MB.
    frames: SharedMemoryQueue[dict[str, Any]] = SharedMemoryQueue(capacity=4, item_size=HEIGHT * WIDTH * 3 + 500)
    camera = Process(target=film, args=(frames,))
    camera.start()
    brightness = []
    for frame in frames:  # would wait for ever if the camera were killed; get(timeout=...) would not
        image = frame["image"]
        image //= 2  # it is this process's own
        brightness.append(int(image.mean()))
    camera.join()
    print(len(brightness), brightness[-1])  # 20 9
