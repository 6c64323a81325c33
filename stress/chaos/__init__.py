"""Real processes and real signals: everything that can come over a queue's users, and the sum of it in a table.

troubles   kills, pauses, a batch lock whose holder dies, visitors that come and go
interrupt  SIGINT to workers that go on
birth      deaths in creation, attachment, closing and unlinking
family     forks while other threads work
full       /dev/shm full
steps      death at every single step of an operation, in either engine
command    all of them
"""
