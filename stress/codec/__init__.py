"""The codec of everyday objects, beside pickle and beside a second writer in Python.

writer    items to bytes, in Python: the native engine's writer has to make the same bytes
drawing   items at random: all types, deep, shared, as keys
likeness  whether two items are the same, type for type and bit for bit
cases     a program: items through all writers and readers, whole and damaged
plain_codec.c, plain_fuzz.c    the writer and reader in C without a queue, as a module, and for libFuzzer
command   builds the codec with sanitizers, and runs the cases, or a fuzzer on the reader
"""
