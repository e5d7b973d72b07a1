"""Who may do what: tokens and roles, decided in one ASGI layer (docs/access.md).

::

    Authorization ─▶ guard ─▶ registry (a fold of the ledger's own `access/roles`) ─▶ caller

Nothing is kept beside the ledger but the key with which tokens are digested.
"""
