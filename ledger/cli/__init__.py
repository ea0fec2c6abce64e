"""The command line: one file a group of commands. Only `__main__` uses it; only here are settings read and engines made."""
