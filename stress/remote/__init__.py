"""Queues on a server: kills of all that use one, and of the server.

server     a server that can be killed and started again
workers    producers, holders of leases and the server are killed
getters    getters of a queue without leases are killed and cancelled, and the server is killed
bridges    bridges are killed
notes      files of numbers, processes that are killed
costs      what calls cost beside round trips
command    the command line
"""
