"""The ring and its handle in C, file by file like the rooms in Python."""
