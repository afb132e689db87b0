"""Informers for Kubernetes: a correct list+watch, indexed caches and a client of plain dicts. See README.md."""
