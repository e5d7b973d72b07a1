"""Azure Event Grid in its own schema, with a static bearer token as a delivery property.

::

    hook.greet(headers, body)        # {"validationResponse": …} for the subscription's handshake

A delivery is a list of events, each an observation of its subject under its own id. Subscriptions
in the CloudEvents schema go to the CloudEvents route, whose handshake is another.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from connectors.arriving import Recording, mark_of, name_text
from connectors.webhooks.hook import (
    Headers,
    Hook,
    observation,
    verify_bearer,
)
from ledger.canonical import parse_json
from ledger.errors import MalformedError

__all__ = ["EVENT_GRID"]

SYSTEM: Final = "eventgrid"
VALIDATION: Final = "Microsoft.EventGrid.SubscriptionValidationEvent"


def _greet(headers: Headers, body: bytes) -> dict[str, str] | None:
    if headers.get("aeg-event-type") != "SubscriptionValidation":
        return None
    for event in _events(body):
        data = event.get("data")
        code = data.get("validationCode") if isinstance(data, Mapping) else None
        if event.get("eventType") == VALIDATION and isinstance(code, str):
            return {"validationResponse": code}
    raise MalformedError("the handshake has no validation code", where="/0/data/validationCode")


def _translate(headers: Headers, body: bytes) -> list[Recording]:
    return [_event(event) for event in _events(body)]


def _event(told: Mapping[str, Any]) -> Recording:
    known = told.get("id")
    key = known if isinstance(known, str) and known else mark_of(told)
    return observation(SYSTEM, name_text(told.get("subject")), told, key)


def _events(body: bytes) -> list[Mapping[str, Any]]:
    found = parse_json(body, max_bytes=max(len(body), 1))
    if not isinstance(found, list) or not all(isinstance(one, Mapping) for one in found):
        raise MalformedError("a delivery of Event Grid is a list of objects")
    return [one for one in found if isinstance(one, Mapping)]


EVENT_GRID: Final = Hook(verify_bearer, _translate, _greet)
