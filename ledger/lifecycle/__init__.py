"""Decisions that live in the chain: aggregates over the ledger's own events.

`aggregate` says what an aggregate is, `application` runs eventsourcing's `Application` on a ledger,
`rollback` holds the rules of the first aggregate, `rollbacks` its repository.
"""
