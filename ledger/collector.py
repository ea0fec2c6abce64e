"""Owns how seldom Python looks for reference cycles: what a process has made while starting lives as long as it does."""

import gc

_THRESHOLDS = 50_000, 20, 50  # a batch is many objects and no cycles


def spare_the_collector() -> None:
    """Leaves what is there now out of every later collection, and makes them rare. Call it when a process is ready to work."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
