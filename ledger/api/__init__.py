"""HTTP: one file per resource, over the service and the reading side of the store. It decides nothing about money."""
