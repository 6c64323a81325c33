"""The ring in C, without Python: programs that include the headers of the package and nothing else of it.

sanitize    an explorer of schedules, and threads under sanitizers: ``ring_explore.c``, ``ring_stress.c``
check       a bounded model checker: ``ring_memory.c``, ``ring_threads.c``
extension   tests of the package on the extension, built with sanitizers
explore_*.h  parts of ring_explore.c
stress_*.h   parts of ring_stress.c
segment.h   a segment on the heap, owners that live and die, items that can be checked
dying.h     for an extension that dies at a chosen step
limits.c    what the machine can do at best, for the benchmark
"""
