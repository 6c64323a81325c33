"""A queue on a server of Redis or Valkey; see ``scripts.py`` for what lies there."""
