"""Webhooks that this server sends: signed by Standard Webhooks, at least once, in order
(docs/webhooks.md).
"""
