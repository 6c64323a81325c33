"""Queues on a server: kills of all that use one, and of the server.

server     a server that can be killed and started again
workers    producers, holders of leases and the server are killed
bridges    bridges are killed
command    the command line
"""
