"""The service: the ledgers of one server over HTTP (docs/spec/http.md), for `asof serve`.

::

    request ─▶ limits ─▶ access ─▶ routes ─▶ ledgers ─▶ answer or problem

`app` puts the layers around the routes, `access` decides who may, `routes/` translate, `ledgers`
holds what is open. Only `api.main` opens stores and knows connectors.
"""
