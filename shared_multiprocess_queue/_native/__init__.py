"""The ring and its handle in C: the same rooms, file by file."""
