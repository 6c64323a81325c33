"""The protocol under Spin, a second time and in Promela: all states of small configurations.

*.pml            the models; that of the ring is in three files
configurations   which sizes of them are gone through
run              goes through them, and through those with planted bugs
"""
