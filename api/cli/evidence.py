"""Commands that prove: verify, prove, bundle."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from api.cli.command import command
from api.cli.importing import refuse_options
from api.cli.options import MOST_ENTRIES, IndexArgument
from api.cli.output import Column, named_once, pairs
from api.cli.session import Session
from api.cli.terminal import Ink, plain
from api.cli.words import count_text
from api.hints import hinting
from ledger.errors import NotFoundError

__all__ = ["register"]

_FINDING_COLUMNS = tuple(
    Column(name, lambda record, name=name: record.get(name))  # type: ignore[misc]
    for name in ("result", "step", "index", "place", "message", "expected", "found")
)


def register(app: typer.Typer) -> None:
    """Add this group's commands to the app."""
    _register_verify(app)
    _register_prove(app)
    _register_bundle(app)


TargetArgument = Annotated[
    Path | None,
    typer.Argument(
        metavar="WHAT",
        help="A bundle (.zip), a .tlog-proof, an export's folder; without it, the ledger.",
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers",
        metavar="N",
        min=1,
        max=64,
        show_default=False,
        help="Processes that share the work (default: one for a small ledger, else all).",
    ),
]
VkeyOption = Annotated[
    str | None,
    typer.Option(
        "--vkey",
        metavar="KEY",
        show_default=False,
        help="The key to verify with, as text or as a file: the one that you were given "
        "earlier (default: the one in the key folder).",
    ),
]
AgainstOption = Annotated[
    Path | None,
    typer.Option(
        "--against",
        metavar="CHECKPOINT",
        show_default=False,
        help="A checkpoint that you kept: the ledger must still continue it.",
    ),
]
ReceiptOption = Annotated[
    Path | None,
    typer.Option(
        "--receipt",
        metavar="FILE",
        show_default=False,
        help="Receipts that you kept: what they prove must still be there.",
    ),
]
EntryOption = Annotated[
    Path | None,
    typer.Option(
        "--entry",
        metavar="FILE",
        show_default=False,
        help="For a .tlog-proof: the bytes of the entry that it is about.",
    ),
]
PolicyOption = Annotated[
    Path | None,
    typer.Option(
        "--policy",
        metavar="FILE",
        show_default=False,
        help="The witnesses that you demand (tlog-policy): they must have cosigned the "
        "checkpoint of --against, or of an export's folder.",
    ),
]


def _register_verify(app: typer.Typer) -> None:
    @command(
        app,
        "verify",
        examples=[
            "asof verify",
            "asof verify claim.zip --vkey ledger.example.com/acme+5cbf3414+AQOh…",
        ],
        remote=True,
    )
    def verify(
        session: Session,
        target: TargetArgument = None,
        workers: WorkersOption = None,
        vkey: VkeyOption = None,
        against: AgainstOption = None,
        receipt: ReceiptOption = None,
        entry: EntryOption = None,
        policy: PolicyOption = None,
    ) -> None:
        """Recompute everything and say what was found, and what was not checked.

        VALID (exit code 0): all of it is what was signed. INVALID (1): it is not; the entries are
        named. INCOMPLETE (7): part could not be checked. ERROR (8): it could not be examined.
        """
        means: dict[str, Any] = {
            "workers": workers,
            "vkey": vkey,
            "against": against,
            "receipt": receipt,
            "entry": entry,
            "policy": policy,
        }
        if session.remote is not None and target is None:
            told = (
                "--server, where the server verifies its own ledger: name the --store, or verify "
                "an export"
            )
            refuse_options(told, **means)
            _report(session, _verified_there(session))
        from api.verification import verify as verified

        with session.progress("Verifying") as tell:
            report = verified(session.settings, target, **means, now=session.now, progress=tell)
        _report(session, report.as_json())


def _verified_there(session: Session) -> dict[str, Any]:
    """The server's report on its own ledger, which says that it was the server."""
    from api.remote.evidence import verify as asked

    assert session.remote is not None  # noqa: S101 - asked by the caller
    with session.progress("The server verifies") as tell:
        return asked(session.remote.client, lambda: tell(0))


def _report(session: Session, answer: dict[str, Any]) -> NoReturn:
    """Show it, and end with the verdict's exit code."""
    from ledger.verdict import Verdict

    session.output.answer(
        answer,
        lines=lambda ink: report_lines(answer, ink),
        rows=_finding_rows(answer),
        columns=_FINDING_COLUMNS,
    )
    raise typer.Exit(Verdict(answer["result"]).exit_code)


def _finding_rows(answer: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One row a finding; one row that says so where there is none."""
    result = {"result": answer["result"]}
    for finding in answer["findings"] or [{}]:
        yield result | finding


def report_lines(answer: dict[str, Any], ink: Ink) -> Iterator[str]:
    """The verdict first, then what is wrong, what was checked, and what was not."""
    result = answer["result"]
    paint = {"VALID": ink.good, "INVALID": ink.bad}.get(result, ink.warn)
    yield f"{paint(result)}  {count_text(answer['entries'], 'entry', 'entries')}"
    if answer["error"]:
        yield f"could not verify: {plain(answer['error'])}"
    for finding in answer["findings"]:
        yield from _finding_lines(finding, ink)
    if answer["more_findings"]:
        yield f"and {answer['more_findings']:,} more"
    yield ""
    counts = [f"{name.replace('_', ' ')} {number:,}" for name, number in answer["checked"].items()]
    rows = [("checked", ", ".join(counts) or "nothing")]
    rows += [("note", note) for note in answer["notes"]]
    rows += [("not checked", text) for text in answer["not_checked"]]
    yield from pairs(named_once(rows), ink)


def _finding_lines(finding: dict[str, Any], ink: Ink) -> Iterator[str]:
    where = [] if finding["index"] is None else [f"entry {finding['index']}"]
    place = ", ".join([*where, *([finding["place"]] if finding["place"] else [])])
    message = finding["message"].removeprefix(f"{place}: ")
    message = message.removesuffix(f" (expected {finding['expected']}, found {finding['found']})")
    yield ink.bad(plain(f"{place or 'ledger'}: {message} (step {finding['step']})"))
    for name in ("expected", "found"):
        if finding[name]:
            yield f"  {name.ljust(8)} {plain(finding[name])}"


OutOption = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="FILE",
        show_default=False,
        help="Write the proof there instead of to the standard output.",
    ),
]
ProveEntryOption = Annotated[
    Path | None,
    typer.Option(
        "--entry",
        metavar="FILE",
        show_default=False,
        help="Write the entry's bytes there: the proof is about them, byte for byte.",
    ),
]


def _register_prove(app: typer.Typer) -> None:
    @command(
        app,
        "prove",
        examples=[
            "asof prove 1204 > 1204.tlog-proof",
            "asof prove 1204 --out 1204.tlog-proof --entry 1204.json",
        ],
        remote=True,
    )
    def prove(
        session: Session,
        index: IndexArgument,
        out: OutOption = None,
        entry: ProveEntryOption = None,
    ) -> None:
        """The proof that an entry is in the ledger: a .tlog-proof, with the signed checkpoint.

        With the entry's bytes and the vkey anybody can check it, also with programs that are not
        asof's (c2sp.org/tlog-proof).
        """
        from ledger.proof import format_proof

        reader = session.rooms.reader
        with hinting(NotFoundError, "asof log --last 20"):
            if session.remote is not None:
                proof = session.remote.reader.proof(index)
            else:
                proof = format_proof(reader.inclusion(index))
        data = reader.entry_bytes(index)
        if entry is not None:
            entry.write_bytes(data)
        if out is not None:
            out.write_bytes(proof)
            session.say(f"wrote {out}")
        elif session.output.form in ("json", "jsonl"):
            answer = {"index": index, "proof": proof.decode(), "entry": data.decode()}
            session.output.answer(answer, lines=lambda ink: ())
        else:
            session.output.text(proof.decode())


BundleIndexArgument = Annotated[
    list[int],
    typer.Argument(metavar="INDEX…", min=0, max=MOST_ENTRIES, help="The entries that it is about."),
]
WithholdOption = Annotated[
    list[int] | None,
    typer.Option(
        "--withhold",
        metavar="INDEX",
        show_default=False,
        help="Prove this entry without disclosing what it says.",
    ),
]
CompleteOption = Annotated[
    bool,
    typer.Option(
        "--complete",
        show_default=False,
        help="Add all other entries without what they say.",
    ),
]


def _register_bundle(app: typer.Typer) -> None:
    @command(
        app,
        "bundle",
        examples=[
            "asof bundle claim.zip 7 9",
            "asof bundle claim.zip 7 9 12 --withhold 12 --complete",
        ],
    )
    def bundle(
        session: Session,
        out: Annotated[Path, typer.Argument(metavar="BUNDLE.zip", help="The file to write.")],
        index: BundleIndexArgument,
        withhold: WithholdOption = None,
        complete: CompleteOption = False,
    ) -> None:
        """Write a file by which a stranger checks entries offline.

        Inside are the entries, their proofs, the signed checkpoint and verify.py, which needs
        nothing but Python: python3 -I -S verify.py BUNDLE.zip. For a state: asof state … --proof
        BUNDLE.zip.
        """
        from api.main import GENERATOR
        from ledger.bundle import build_bundle

        rooms = session.rooms
        manifest = build_bundle(
            out,
            rooms.reader,
            indexes=index,
            made_at=session.now,
            generator=GENERATOR,
            withhold=withhold or (),
            complete=complete,
            signer=rooms.signer,
        )
        show_bundle(session, out, manifest)


def show_bundle(session: Session, path: Path, manifest: Any) -> None:
    """Say what was written and how it is checked."""
    answer = {
        "bundle": str(path),
        "ledger": manifest.ledger,
        "files": len(manifest.files),
        "size": path.stat().st_size,
        "tree_size": manifest.basis.tree_size,
    }
    session.output.answer(
        answer,
        lines=lambda ink: [
            f"wrote {plain(str(path))}: "
            f"{count_text(answer['files'], 'file')}, {answer['size']:,} bytes"
        ],
    )
    session.say(f"check it with: asof verify {path}")
    session.say(
        f"or without asof: unzip -p {path} verify.py > verify.py; python3 -I -S verify.py {path}"
    )
