"""The schedule explorer: both engines in one process that decides before each atomic step which actor moves.

program    programs (a queue, its actors and their calls) and schedules, both as text
scheduler  actors as greenlets, each step a decision; time and sleep are part of the schedule
handles    the engines, on memory that asks the scheduler before each access
world      one program: set up, run under a schedule, and looked at afterwards
verdict    the rules that a history has to keep: a pure function
search     all schedules up to a number of switches and deaths, or those that hypothesis draws
explored.h included before the extension's source, whose steps in C then ask the scheduler
inside     the search, in the process that has that copy
run        builds a copy of the package, possibly with a bug, starts that process, and reports
command    the command line
"""
