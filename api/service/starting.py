"""`asof serve`: from settings to a server that answers, and what is said on the way."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson
import structlog

from api.main import store_of
from api.service.assembly import Service, assembled
from api.service.configuration import Configuration, read_configuration, single
from api.service.requests import now_micros
from api.service.serving import bound_socket, run
from ledger.canonical import format_time
from ledger.places import FilePlace

if TYPE_CHECKING:
    from structlog.typing import EventDict

    from api.settings import Settings

__all__ = ["configured", "serve"]

DATA_SUFFIX: Final = ".service"


def serve(
    settings: Settings,
    config: Path | None,
    *,
    host: str | None,
    port: int | None,
    say: Callable[[str], None],
) -> None:
    """Serve until a signal ends it. Raises what is wrong with the configuration, the ledgers or the
    address, before anything is served.
    """
    configuration = configured(settings, config, host=host, port=port)
    _set_up_log(configuration.log_format)
    listening = bound_socket(configuration.host, configuration.port)
    try:
        with assembled(configuration) as service:
            run(
                service.app,
                listening,
                certificate=configuration.certificate,
                key=configuration.private_key,
                proxies=",".join(configuration.trusted_proxies) or None,
                started=lambda url: _welcome(service, configuration.url or url, say),
                stopping=service.stopping.set,
            )
    finally:
        listening.close()


def configured(
    settings: Settings, config: Path | None, *, host: str | None, port: int | None
) -> Configuration:
    """The configuration: of the file, or of one ledger; the command line wins."""
    if config is not None:
        found = read_configuration(config, settings)
    else:
        found = single(settings, _name_of(settings), _data_of(settings))
    return replace(
        found,
        host=found.host if host is None else host,
        port=found.port if port is None else port,
    )


def _name_of(settings: Settings) -> str:
    """The last part of the ledger's origin, in letters that a path takes."""
    from api.main import describe_keys

    origin = str(describe_keys(settings)["origin"])
    last = origin.rstrip("/").rpartition("/")[2]
    return "".join(
        letter if letter.isascii() and (letter.isalnum() or letter in "-_.") else "-"
        for letter in last
    )


def _data_of(settings: Settings) -> Path:
    place = store_of(settings)
    if isinstance(place, FilePlace):
        return place.path.with_name(f"{place.path.name}{DATA_SUFFIX}")
    return Path(f"asof{DATA_SUFFIX}")


def _welcome(service: Service, url: str, say: Callable[[str], None]) -> None:
    for name in service.ledgers:
        say(f"serving {url}/v1/ledgers/{name}")
    for name, key in service.setup.open_keys().items():
        say(
            f"nobody administers {name} yet; this link makes the first token, once, within an hour:"
        )
        say(f"  {url}/setup?ledger={name}&key={key}")


def _set_up_log(form: str) -> None:
    """One line an event on the standard error, which belongs to the log alone from here on."""
    writing: list[Any] = [structlog.processors.JSONRenderer(serializer=orjson.dumps)]
    factory: Any = structlog.BytesLoggerFactory(sys.stderr.buffer)
    if form == "text":
        writing = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
        factory = structlog.PrintLoggerFactory(sys.stderr)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            _stamped,
            structlog.processors.format_exc_info,
            *writing,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=factory,
        cache_logger_on_first_use=True,
    )
    logging.getLogger().addHandler(logging.NullHandler())


def _stamped(logger: Any, method: str, event: EventDict) -> EventDict:
    event["at"] = format_time(now_micros())
    return event
