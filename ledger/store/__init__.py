"""SQL: functions that take a connection and never commit. `dialect` is the one place that asks which database it is."""
