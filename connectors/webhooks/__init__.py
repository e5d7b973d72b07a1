"""Webhooks of systems: how each proves who it is, and what it says.

::

    hook = HOOKS["github"]
    delivery = hook.verify(headers, body, secrets, now)        # RefusedError: it proves nothing
    hook.translate(headers, body)                              # recordings

Verification is over the bytes as they came, in constant time, with several secrets while one is
being replaced; where the system signs a time, one that is more than five minutes off is refused.
What a webhook says of actors is a claim of that system, and is recorded as such.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from connectors.webhooks.eventgrid import EVENT_GRID
from connectors.webhooks.hook import Delivery, Hook
from connectors.webhooks.kubernetes import KUBERNETES
from connectors.webhooks.lakefs import LAKEFS
from connectors.webhooks.registry import REGISTRY
from connectors.webhooks.repositories import GITEA, GITHUB, GITLAB
from connectors.webhooks.signed import MLFLOW, STANDARD, TERRAFORM, WANDB

__all__ = ["HOOKS", "Delivery", "Hook"]

HOOKS: Mapping[str, Hook] = MappingProxyType(
    {
        "eventgrid": EVENT_GRID,
        "forgejo": GITEA,
        "gitea": GITEA,
        "github": GITHUB,
        "gitlab": GITLAB,
        "kubernetes": KUBERNETES,
        "lakefs": LAKEFS,
        "mlflow": MLFLOW,
        "registry": REGISTRY,
        "standard": STANDARD,
        "terraform": TERRAFORM,
        "wandb": WANDB,
    }
)
