"""Damaged segments, and everything that one can do with a queue: only its own errors may come of it.

damage    states of a segment, and damage that is done to it
actor     the process of a case, and the calls that it makes
run       case after case, each made smaller if it shows something
command   the command line
"""
