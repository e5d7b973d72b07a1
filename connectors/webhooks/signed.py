"""Systems whose deliveries are signed and kept as observations: MLflow, W&B, HCP Terraform, and
whoever signs by Standard Webhooks."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Sequence
from typing import Final

from connectors.arriving import Recording, name_text
from connectors.webhooks.hook import (
    Delivery,
    Headers,
    Hook,
    body_id,
    fresh,
    observation,
    proved_by_hmac,
    read_object,
)
from ledger.errors import RefusedError

__all__ = ["MLFLOW", "STANDARD", "TERRAFORM", "WANDB"]


def _verify_mlflow(headers: Headers, body: bytes, secrets: Sequence[str], now: int) -> Delivery:
    """`v1,<base64>` over `<delivery>.<time>.<body>`."""
    delivery, at = headers.get("x-mlflow-delivery-id", ""), headers.get("x-mlflow-timestamp", "")
    version, _, given = headers.get("x-mlflow-signature", "").partition(",")
    message = f"{delivery}.{at}.".encode() + body
    proved_by_hmac(given if version == "v1" else "", message, secrets)
    fresh(at, now)
    return Delivery(delivery)


def _verify_standard(headers: Headers, body: bytes, secrets: Sequence[str], now: int) -> Delivery:
    """Standard Webhooks: `v1,<base64>` each, over `<id>.<time>.<body>`; secrets are base64."""
    delivery, at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    message = f"{delivery}.{at}.".encode() + body
    given = [one.partition(",") for one in headers.get("webhook-signature", "").split(" ")]
    good = False
    for secret in secrets:
        made = hmac.new(_secret(secret), message, "sha256").digest()
        for version, _, signature in given:
            same = hmac.compare_digest(base64.b64encode(made), signature.encode("utf-8", "replace"))
            good |= same and version == "v1"
    if not good or not delivery:
        raise RefusedError("the signature is missing or not that of a known secret")
    fresh(at, now)
    return Delivery(delivery)


def _secret(text: str) -> bytes:
    try:
        return base64.b64decode(text.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        return text.encode()


def _verify_wandb(headers: Headers, body: bytes, secrets: Sequence[str], now: int) -> Delivery:
    given = headers.get("x-wandb-signature", "")
    proved_by_hmac(given.removeprefix("sha256="), body, secrets)
    return Delivery(body_id(body))


def _verify_terraform(headers: Headers, body: bytes, secrets: Sequence[str], now: int) -> Delivery:
    given = headers.get("x-tfe-notification-signature", "")
    proved_by_hmac(given, body, secrets, digest="sha512")
    return Delivery(body_id(body))


def _kept(system: str, *names: str) -> Hook:
    """The verification of a system, and a translation that keeps what is said, as an observation of
    the first of these members that is there."""

    def translate(headers: Headers, body: bytes) -> list[Recording]:
        told = read_object(body)
        target = next((told[name] for name in names if isinstance(told.get(name), str)), system)
        delivery = headers.get("x-mlflow-delivery-id") or headers.get("webhook-id") or ""
        return [observation(system, name_text(target), told, delivery or body_id(body))]

    return Hook(_VERIFY[system], translate)


_VERIFY: Final = {
    "mlflow": _verify_mlflow,
    "standard": _verify_standard,
    "terraform": _verify_terraform,
    "wandb": _verify_wandb,
}
MLFLOW: Final = _kept("mlflow", "entity")
STANDARD: Final = _kept("standard", "type")
TERRAFORM: Final = _kept("terraform", "workspace_name")
WANDB: Final = _kept("wandb", "artifact_collection_name", "event_type")
