"""The benchmark: this package and its peers side by side, in one run, beside the limits of the machine.

Its parts, each an idea of its own:

    channel      what is measured of a queue: a channel between processes, and its ends
    peers        a module for each kind of queue
    items        what is put
    scenarios    what is measured
    host         one scenario on one peer, in processes of its own
    copying      copies of an item's bytes by themselves
    limits       what the machine can do at best
    run          what is measured in which order
    report       tables, and the goals of the design
    plot         pictures
    output       all of it in files
    awaiting     tasks of asyncio beside their peers
    command      the command line
"""
