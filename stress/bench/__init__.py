"""The benchmark: this package and its peers side by side, in one run, beside the limits of the machine.

Its parts, each an idea of its own:

    channel    what is measured of a queue: a channel between processes, and its two ends
    peers      a module for each kind of queue
"""
