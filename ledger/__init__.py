"""An exact, enforcing spend ledger for LLM usage."""
