"""Clients for Compass: Connector and Director over GraphQL, TLS, keys and certificates. Knows nothing of Kubernetes.

* Every failure is a CompassError of a kind that callers can act upon (`controller.compass.errors`).
* No secret enters a message, a repr or a log record.
* What a client returns is complete and type-checked, or it raises.
* Nothing is retried. What stays between calls: pooled connections, and the applications of the last fetch.
"""
