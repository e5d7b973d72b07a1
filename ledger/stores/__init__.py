"""The stores: memory and SQLite. Each keeps the contract of `ledger.store`."""
