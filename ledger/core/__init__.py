"""The pure core: values in, values out. No clock, no I/O, no framework; money is integers of nano-USD.

Read `window`, `caps`, `keys`, `entries`, `books` (the fold), then `execute` (what decides).
"""
