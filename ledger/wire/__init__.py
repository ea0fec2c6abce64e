"""Formats of ours: bytes to commands, entries to bytes. The one place that knows them, versioned by `type`."""
