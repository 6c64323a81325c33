"""The command shmq."""
