"""A queue on a server: one suite for local and remote queues, and what is the remote's alone."""
