"""API servers for tests that no real one can replace: they misbehave, on demand and always in the same way.

script.py    a ListerWatcher that plays a script on a clock of its own: whole protocol runs as tables
cluster.py   the state of a server: objects, history, pages, expiry
server.py    that state behind HTTP on the loopback, with faults to order
"""
