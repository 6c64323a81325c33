"""The stress kit: soaks the queue, kills its users, and compares its speed. Run ``python -m stress --help``.

Its parts, each an idea of its own:

    items      items that can tell when they were damaged
    history    what was put and got, and the verdict over it: a pure function
    logs       how workers write that history down so that it survives them
    workers    the loops of producers and consumers
    crew       starting, watching and killing processes, and seeing that nothing is left
    rounds     survivors work, trouble comes over them, and they have to get on
    mortal     processes that die at a chosen step
    soak       many items, nobody dies
    kill       kill -9, at random moments
    explore    both engines under every order of their steps, within bounds
    chaos      every kind of trouble: signals, forks, full memory, deaths at every step
    damage     states of a segment, and damage that is done to it
    fence      mappings between pages that nobody may touch
    hostile    damaged segments, and everything that one can do with them
    compare    speed beside the release before the rewrite
    bench      speed beside other queues, and beside what the machine can do at best
    model      the protocol under Spin, whose models are in ``model/``
    check      the native algorithm under a bounded model checker
"""
