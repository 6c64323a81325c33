"""Queues on a server: kills of all that use one, and of the server; connections that are cut.

server     a server that can be killed and started again
several    servers that work together: sentinels, a cluster
cutting    a proxy that cuts connections in the middle of messages
workers    producers, holders of leases and the server are killed, or connections are cut
getters    getters of a queue without leases are killed and cancelled, and the server is killed
bridges    bridges are killed
notes      files of numbers, processes that are killed
costs      what calls cost beside round trips, and beside other queues
peers      these other queues
command    the command line
"""
