"""The command ``shmq``."""
