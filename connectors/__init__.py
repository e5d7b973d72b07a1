"""The systems: what each holds now, whether an old version can come back, and bringing it back.

::

    connector = connector_for("git", Settings(environ=os.environ, objects=Path("asof.objects")))
    [seen] = connector.observe("/srv/shop")

`connectors` imports `ledger` and nothing else of ours. A new system is a file with a class that
passes tests/contract/test_connectors.py, a line in `SYSTEMS`, and a page in docs/connectors/.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from connectors.connector import Connector, Settings
from connectors.environment import EnvironmentConnector
from connectors.files import FilesConnector
from connectors.git import GitConnector
from ledger.errors import NotFoundError

__all__ = ["SYSTEMS", "Connector", "Settings", "connector_for"]

SYSTEMS: Mapping[str, Callable[[Settings], Connector]] = MappingProxyType(
    {
        "environment": EnvironmentConnector,
        "files": FilesConnector,
        "git": GitConnector,
    }
)


def connector_for(system: str, settings: Settings) -> Connector:
    """The connector of a system. Raises: NotFoundError for one that is not known."""
    if system not in SYSTEMS:
        known = ", ".join(sorted(SYSTEMS))
        raise NotFoundError(f"there is no connector for {system!r}; there are {known}")
    return SYSTEMS[system](settings)
