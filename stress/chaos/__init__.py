"""Real processes and real signals: everything that can come over the users of a queue, and the sum of it in a table.

kill       kill -9 in tight loops; a command of its own, and a kind of chaos
troubles   kills, pauses, a batch lock whose holder dies, visitors that come and go
interrupt  SIGINT to workers that go on
birth      deaths in creation, attachment, closing and unlinking
family     forks while other threads work
full       /dev/shm full
steps      death at every single step of an operation, in either engine
skip       what a kind raises that is not possible on this machine
series     rounds one after the other, and the verdict over them
command    all kinds in turn
soak       many items without a death; a command of its own
storm      exceptions from outside by the hundred thousand; a command of its own
"""
