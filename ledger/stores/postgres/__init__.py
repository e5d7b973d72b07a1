"""The store in PostgreSQL: `PostgresStore.open(url, origin)`; `migrate(url)` prepares for it."""

from __future__ import annotations

from ledger.stores.postgres.connecting import PREFIXES, shown
from ledger.stores.postgres.migrating import Migrated, migrate
from ledger.stores.postgres.store import PostgresStore

__all__ = ["PREFIXES", "Migrated", "PostgresStore", "migrate", "shown"]
