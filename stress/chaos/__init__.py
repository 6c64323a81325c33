"""Real processes and real signals: all troubles that the users of a queue can have, with the results in a table.

kill       kill -9 in tight loops; a command of its own, and a kind of chaos
troubles   kills, pauses, a batch lock whose holder dies, visitors that come and go
interrupt  SIGINT to workers that go on
birth      deaths in creation, attachment, closing and unlinking
family     forks while other threads work
full       /dev/shm full
tasks      tasks of asyncio that are cancelled, in processes that are killed
steps      death at each step of an operation, in either engine
leased_steps  the same in queues with leases
skip       the exception of a kind that is not possible on this machine
leased     what the kinds with leases share: their processes, and what these do
leases     workers that are killed while they process an item, end it or take it over; workers that are interrupted
letters    the same with dead letters, and processes that end these or put them back
storms     joins and shutdowns in a storm of such workers
shutdown   producers and consumers are killed and paused while the queue is shut down
series     rounds one after the other, and the verdict over them
command    all kinds in turn
soak       many items without a death; a command of its own
storm      exceptions from outside by the hundred thousand; a command of its own
lives      whole programs that end in every way: nothing is left; a command of its own
life       the program whose ends ``lives`` watches
"""
