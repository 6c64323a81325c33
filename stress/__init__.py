"""The stress kit. Run ``python -m stress --help``.

A room for each way to find what is wrong; all of them stand on ``harness`` and none imports another:

    harness    processes, rounds, histories and their verdict, copies of the package: knows none of the others
    planted    bugs as patches, and the list of what has to find each: imports the harness only
    explore    both engines under every order of their steps, within bounds
    model      the protocol under Spin
    native     the ring in C: an explorer of its own, threads under sanitizers, a bounded model checker
    codec      everyday objects in C and in Python beside pickle; a fuzzer on the reader in C
    hostile    damaged segments, and everything that one can do with them
    chaos      real processes and every kind of trouble: kills, signals, forks, full memory, deaths at every step
    remote     queues on a server: kills of workers, bridges and the server; cut connections
    bench      speed beside other queues, the release before the rewrite, and the limits of the machine
"""
