"""A bounded FIFO of Python objects in named shared memory, for any number of processes and threads."""
