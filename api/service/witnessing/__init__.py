"""Witnessing: this server as a witness of other logs, and other witnesses of its ledgers.

So two installations can cosign each other (docs/witness.md).
"""
