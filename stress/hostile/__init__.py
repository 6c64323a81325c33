"""Damaged segments, and everything that one can do with a queue: only its own errors may come of it.

staging   states of a segment
damage    cases: a state, and damage that is done to it
actor     the process of a case, and the calls that it makes
run       case after case, each made smaller if it shows something
command   the command line
"""
