"""An exact, enforcing spend ledger for LLM usage."""

__version__ = "0.1.0"
