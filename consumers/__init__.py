"""Kafka shells around `ledger`: they take records, hand them on, and acknowledge what is committed. They decide nothing."""
