"""The commands of the service: serve, and who may use it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.cli.command import command, group, new_app
from api.cli.output import Column
from api.cli.session import Session
from api.cli.terminal import plain
from api.hints import hinted
from ledger.errors import MalformedError

if TYPE_CHECKING:
    from api.service.access.changing import Decision

__all__ = ["register"]

_TOKEN_COLUMNS = (
    Column("id", lambda record: record["id"], "TOKEN"),
    Column("principal", lambda record: record["principal"], "PRINCIPAL"),
    Column("roles", lambda record: ", ".join(record["roles"]), "ROLES"),
    Column("status", lambda record: record["status"], "STATUS"),
    Column("created_at", lambda record: record["created_at"]),
    Column("expires_at", lambda record: record["expires_at"], "EXPIRES"),
)
_ROLE_COLUMNS = (
    Column("principal", lambda record: record["principal"], "PRINCIPAL"),
    Column("roles", lambda record: ", ".join(record["roles"]), "ROLES"),
)
PrincipalArgument = Annotated[
    str, typer.Argument(metavar="PRINCIPAL", help="user:…, service:… or agent:….")
]
RoleArgument = Annotated[
    str,
    typer.Argument(
        metavar="ROLE",
        help="recorder, auditor, operator, approver, compliance, admin or provisioner.",
    ),
]
TokenArgument = Annotated[str, typer.Argument(metavar="ID", help="The token's id.")]


def register(app: typer.Typer) -> None:
    """Add this group's commands to the app."""
    _register_serve(app)
    _register_tokens(app)
    _register_access(app)


ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        show_default=False,
        help="Several ledgers, TLS, limits: docs/configuration.md (ASOF_CONFIG).",
    ),
]
HostOption = Annotated[
    str | None,
    typer.Option(
        "--host",
        metavar="ADDRESS",
        show_default=False,
        help="Where to listen (default 127.0.0.1: this machine only).",
    ),
]
PortOption = Annotated[
    int | None,
    typer.Option(
        "--port",
        metavar="PORT",
        min=0,
        max=65_535,
        show_default=False,
        help="The port (default 8080; 0 takes a free one).",
    ),
]


def _register_serve(app: typer.Typer) -> None:
    @command(
        app,
        "serve",
        examples=[
            "asof serve --store sqlite:///asof.db --port 8080",
            "asof serve --config asof.toml",
        ],
    )
    def serve(
        session: Session,
        config: ConfigOption = None,
        host: HostOption = None,
        port: PortOption = None,
    ) -> None:
        """Serve ledgers over HTTP: API, tiles, figures. Ctrl-C ends it well.

        Nobody is let in without a token. The first time, a link for making the first one is
        printed; asof access and asof tokens do the same beside the store.
        """
        try:
            from api.service.starting import serve as started
        except ModuleNotFoundError as error:
            raise hinted(
                MalformedError(f"the service's packages are not installed ({error.name})"),
                "install asof-ledger[service]",
            ) from None
        named = config or session.settings.config
        started(session.settings, named, host=host, port=port, say=session.say)


def _register_tokens(app: typer.Typer) -> None:
    tokens = new_app(
        "tokens",
        "Tokens with which programs and people use the service.",
        examples=["asof tokens create service:trainer-0 --role recorder", "asof tokens list"],
    )
    app.add_typer(tokens, name="tokens")
    group(tokens)
    _register_create(tokens)
    _register_list(tokens)
    _register_rotate(tokens)
    _register_revoke(tokens)


RoleOption = Annotated[
    list[str] | None,
    typer.Option(
        "--role",
        metavar="ROLE",
        show_default=False,
        help="What it may be used for (default: all roles that the principal has). A role "
        "that the principal lacks is given first.",
    ),
]
DaysOption = Annotated[
    int | None,
    typer.Option("--days", metavar="N", min=1, max=400, show_default=False, help="Default: 90."),
]


def _register_create(tokens: typer.Typer) -> None:
    @command(
        tokens,
        "create",
        examples=[
            "asof tokens create service:trainer-0 --role recorder",
            "asof tokens create user:81f3 --role auditor --days 30 -o json",
        ],
        writes=True,
    )
    def create(
        session: Session,
        principal: PrincipalArgument,
        role: RoleOption = None,
        days: DaysOption = None,
    ) -> None:
        """Make a token. It is printed once, and nobody can print it again."""
        from api.service.access.changing import issue_token

        access = _Access(session)
        access.give(principal, role or ())
        made = access.decide(
            lambda registry: issue_token(
                registry,
                principal,
                roles=role or (),
                days=days,
                by=session.actor,
                now=session.now,
            )
        )
        answer = {**made.told, "token": getattr(made, "token")}  # noqa: B009
        session.output.answer(
            answer,
            lines=lambda ink: [plain(str(answer["token"]))],
            rows=[answer],
            columns=(Column("token", lambda record: record["token"]), *_TOKEN_COLUMNS[:3]),
        )
        session.say(f"valid until {answer['expires_at']}; keep it now, it is not shown again")


def _register_list(tokens: typer.Typer) -> None:
    @command(tokens, "list", examples=["asof tokens list", "asof tokens list -o json"])
    def list_(session: Session) -> None:
        """The tokens, without their secrets."""
        from api.service.access.listing import token_json

        registry = _Access(session).registry
        session.output.records(
            (token_json(token, session.now) for token in registry.tokens()),
            _TOKEN_COLUMNS,
            empty="no token was made yet\n"
            "try: asof tokens create service:trainer-0 --role recorder",
        )


def _register_rotate(tokens: typer.Typer) -> None:
    @command(
        tokens,
        "rotate",
        examples=["asof tokens rotate 7Kq2mWc0Ab", "asof tokens rotate 7Kq2mWc0Ab -o json"],
        writes=True,
    )
    def rotate(session: Session, id: TokenArgument) -> None:
        """Make a second token like it. Both live until you revoke the first."""
        from api.service.access.changing import rotate_token

        made = _Access(session).decide(
            lambda registry: rotate_token(registry, id, by=session.actor, now=session.now)
        )
        answer = {**made.told, "token": getattr(made, "token")}  # noqa: B009
        session.output.answer(answer, lines=lambda ink: [plain(str(answer["token"]))])
        session.suggest(f"asof tokens revoke {id}")


def _register_revoke(tokens: typer.Typer) -> None:
    @command(
        tokens,
        "revoke",
        examples=["asof tokens revoke 7Kq2mWc0Ab", "asof tokens revoke 7Kq2mWc0Ab -o json"],
        writes=True,
    )
    def revoke(session: Session, id: TokenArgument) -> None:
        """End a token. A server that runs sees it within a second."""
        from api.service.access.changing import revoke_token

        done = _Access(session).decide(
            lambda registry: revoke_token(registry, id, by=session.actor, now=session.now)
        )
        session.output.answer(done.told, lines=lambda ink: [f"revoked: {plain(id)}"])


def _register_access(app: typer.Typer) -> None:
    access = new_app(
        "access",
        "Who has which role. Every change is an entry of the ledger.",
        examples=["asof access grant user:81f3 auditor", "asof access list"],
    )
    app.add_typer(access, name="access")
    group(access)

    @command(
        access,
        "grant",
        examples=[
            "asof access grant user:81f3 auditor",
            "asof access grant user:ada admin --actor user:root",
        ],
        writes=True,
    )
    def grant(session: Session, principal: PrincipalArgument, role: RoleArgument) -> None:
        """Give a role. Whoever has the store and its key may; over HTTP only another admin may."""
        done = _Access(session).give(principal, (role,))
        session.output.answer(done, lines=lambda ink: [_roles_line(done)])

    @command(
        access,
        "revoke",
        examples=["asof access revoke user:81f3 auditor", "asof access revoke user:ada admin"],
        writes=True,
    )
    def revoke(session: Session, principal: PrincipalArgument, role: RoleArgument) -> None:
        """Take a role away; the last one takes the principal's tokens with it."""
        from api.service.access.changing import revoke_role

        done = _Access(session).decide(
            lambda registry: revoke_role(
                registry, principal, role, by=session.actor, now=session.now
            )
        )
        session.output.answer(done.told, lines=lambda ink: [_roles_line(done.told)])

    @command(access, "list", examples=["asof access list", "asof access list -o csv"])
    def list_(session: Session) -> None:
        """Who has which role now."""
        found = _Access(session).registry.principals()
        session.output.records(
            ({"principal": who, "roles": sorted(roles)} for who, roles in sorted(found.items())),
            _ROLE_COLUMNS,
            empty="nobody has a role yet\ntry: asof access grant user:ada admin",
        )


def _roles_line(told: dict[str, Any]) -> str:
    roles = ", ".join(told["roles"]) or "no role any more"
    return f"{plain(str(told['principal']))}: {roles}"


class _Access:
    """The access of the session's ledger, changed beside the store."""

    def __init__(self, session: Session) -> None:
        from api.main import keys_of
        from api.service.access.registry import Registry
        from api.service.access.tokens import load_pepper

        self._session = session
        reader = session.rooms.reader
        pepper = (
            load_pepper(keys_of(session.settings), create=session.writes) if session.writes else b""
        )
        self.registry = Registry(reader, pepper)
        self.registry.refresh()

    def decide(self, decide: Any) -> Decision:
        """Decide, record at the version that was read, and know it."""
        made: Decision = decide(self.registry)
        if made.drafts:
            self._session.rooms.writer.append(made.drafts)
            self.registry.refresh()
        return made

    def give(self, principal: str, roles: Any) -> dict[str, Any]:
        """Give those of the roles that are lacking."""
        from api.service.access.changing import grant_role

        for role in roles:
            self.decide(
                lambda registry, role=role: grant_role(
                    registry,
                    principal,
                    role,
                    by=self._session.actor,
                    now=self._session.now,
                    beside_the_store=True,
                )
            )
        held = self.registry.roles_of(principal)
        return {"principal": principal, "roles": sorted(held)}
