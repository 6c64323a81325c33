"""The protocol once more in Promela, under Spin: all states of small configurations.

*.pml            the models; that of the ring is in three files
configurations   the sizes at which they are searched
run              searches them, also with planted bugs
"""
