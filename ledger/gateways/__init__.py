"""Gateways, one vendor a file, both directions. They know the core and the wire, nothing of the store."""
