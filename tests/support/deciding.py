"""Decisions of every kind, made ready for tests: a subject, its commands, and what spoils them.

::

    machine = Approvals(Decisions(…))
    machine.run("approve", flaw=None)         # loads, decides, saves
    machine.run("approve", flaw="requester")  # the same, by somebody who may not

`state` names a row, and a command a column, of the tables in docs/spec/lifecycle.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from ledger.canonical import format_time
from ledger.events.releases import ReleaseChange
from ledger.lifecycle import erasure, release
from ledger.lifecycle.approval import Approval
from ledger.lifecycle.decisions import Decisions
from ledger.lifecycle.erasure import Erasure
from ledger.lifecycle.hold import Hold
from ledger.lifecycle.incident import Incident
from ledger.lifecycle.release import Release
from tests.support.empty_ledgers import START, Opened

DIGEST, OTHER = "sha256:" + "1a" * 32, "sha256:" + "2b" * 32
DAY = 86_400_000_000
EARLY, LATE = START + DAY, START + 9 * DAY
EXPIRES = format_time(START + 5 * DAY)
ASKS, SAYS, ALSO, ACTS = "user:mia", "user:noah", "user:ivo", "service:asof"


def decisions_of(ledger: Opened) -> Decisions:
    return Decisions(ledger.writer, ledger.reader, actor=ACTS, clock=ledger.clock)


def asked(name: str = "1", **changes: Any) -> Approval:
    fields = {"subject_digest": DIGEST, "meaning": release.MEANING, "actor": ASKS}
    return Approval.requested(name, **{**fields, "expires_at": EXPIRES, **changes})


def yes(name: str, digest: str, meaning: str, by: str, asker: str = ASKS) -> Approval:
    """An approval that says yes."""
    made = asked(name, subject_digest=digest, meaning=meaning, actor=asker)
    made.decide("approved", by, digest=digest, now=EARLY)
    return made


def change(version: int = 7, slot: str = "model", previous: str | None = None) -> ReleaseChange:
    return ReleaseChange(
        slot=slot,
        asset_version=f"model/forecaster@{version}",
        digest="sha256:" + f"{version % 256:02x}" * 32,
        previous=previous,
    )


class Machine:
    """One subject and the commands on it, each with the flaws that must have it refused."""

    TITLE: ClassVar[str]
    FLAWS: ClassVar[dict[str, tuple[str, ...]]]
    kind: ClassVar[type[Any]]

    def __init__(self, decisions: Decisions) -> None:
        self.decisions = decisions
        self.asked_for = 0
        self.begin()

    @property
    def state(self) -> str:
        """The row of the table, from the stream alone."""
        status: str = self.load().status
        return status

    def load(self) -> Any:
        return self.decisions.get(self.kind, "1")

    def begin(self) -> None:
        raise NotImplementedError

    def run(self, command: str, flaw: str | None) -> None:
        """Loads, decides and saves. Raises what the rules raise."""
        subject = self.load()
        act: Callable[..., Any] = getattr(self, command.replace(": ", "_"))
        also = act(subject, flaw)
        self.decisions.store(subject, *(also or ()))

    def number(self) -> int:
        """Another number each time."""
        self.asked_for += 1
        return self.asked_for


class Approvals(Machine):
    TITLE = "Approval"
    kind = Approval
    FLAWS: ClassVar = {
        "approve": ("requester", "machine", "digest", "late", "role"),
        "reject": ("requester", "machine", "digest", "late", "role"),
        "expire": ("early",),
        "void": ("unchanged",),
        "use": ("digest", "meaning", "late", "other"),
    }

    def begin(self) -> None:
        self.decisions.store(asked(roles=("owner",)))

    def approve(self, subject: Approval, flaw: str | None) -> None:
        self._decide("approved", subject, flaw)

    def reject(self, subject: Approval, flaw: str | None) -> None:
        self._decide("rejected", subject, flaw)

    def _decide(self, answer: Any, subject: Approval, flaw: str | None) -> None:
        subject.decide(
            answer,
            {"requester": ASKS, "machine": "agent:7"}.get(flaw or "", SAYS),
            digest=OTHER if flaw == "digest" else DIGEST,
            now=LATE if flaw == "late" else EARLY,
            role="guest" if flaw == "role" else "owner",
        )

    def expire(self, subject: Approval, flaw: str | None) -> None:
        subject.expire(ACTS, now=EARLY if flaw == "early" else LATE)

    def void(self, subject: Approval, flaw: str | None) -> None:
        subject.void(ACTS, digest_now=DIGEST if flaw == "unchanged" else OTHER)

    def use(self, subject: Approval, flaw: str | None) -> None:
        if flaw == "other":  # spoils only what was used; elsewhere any user would do
            subject.use("release/2", ACTS, digest=OTHER, meaning=release.MEANING, now=EARLY)
        subject.use(
            "release/1",
            ACTS,
            digest=OTHER if flaw == "digest" else DIGEST,
            meaning="reviewed" if flaw == "meaning" else release.MEANING,
            now=LATE if flaw == "late" else EARLY,
        )


class Releases(Machine):
    TITLE = "Release"
    kind = Release
    FLAWS: ClassVar = {
        "change": (),
        "approve": ("author", "too few", "meaning", "late", "digest", "undecided"),
        "complete": ("late", "moved on"),
        "withdraw": (),
    }

    def begin(self) -> None:
        self.decisions.store(
            Release.proposed(
                "1",
                pipeline="p",
                stage="s",
                changes=[change(0, previous="model/forecaster@1")],
                actor=ASKS,
                approvers=2,
            )
        )

    def change(self, subject: Release, flaw: str | None) -> None:
        version = 10 + self.number()
        subject.change([change(version, previous="model/forecaster@1")], ASKS)

    def approve(self, subject: Release, flaw: str | None) -> tuple[Approval, ...]:
        if subject.status == "approved" and flaw is None:
            names = [stream.removeprefix("approval/") for stream in subject.approval.approvals]  # type: ignore[union-attr]
            again = tuple(self.decisions.get(Approval, name) for name in names)
            subject.approve(again, ASKS, now=EARLY)
            return again
        digest = OTHER if flaw == "digest" else subject.digest
        meaning = "reviewed" if flaw == "meaning" else release.MEANING
        people = {"author": (SAYS, ASKS), "too few": (SAYS, SAYS)}.get(flaw or "", (SAYS, ALSO))
        names = [f"r{self.number()}" for _ in people]
        given = tuple(
            yes(name, digest, meaning, by, asker="service:ci")
            for name, by in zip(names, people, strict=True)
        )
        if flaw == "undecided":
            given = (*given, asked("u", subject_digest=digest, meaning=meaning))
        subject.approve(given, ASKS, now=LATE if flaw == "late" else EARLY)
        return given

    def complete(self, subject: Release, flaw: str | None) -> None:
        held = "model/forecaster@2" if flaw == "moved on" else "model/forecaster@1"
        subject.complete(ACTS, now=LATE if flaw == "late" else EARLY, bound={"model": held})

    def withdraw(self, subject: Release, flaw: str | None) -> None:
        subject.withdraw("It is wrong on weekends.", SAYS)


class Incidents(Machine):
    TITLE = "Incident"
    kind = Incident
    FLAWS: ClassVar = {"update": (), "close": ()}

    def begin(self) -> None:
        self.decisions.store(Incident.opened("1", severity="major", summary="Too low.", actor=ASKS))

    def update(self, subject: Incident, flaw: str | None) -> None:
        subject.update(SAYS, action=f"Looked at it {self.number()} times.")

    def close(self, subject: Incident, flaw: str | None) -> None:
        subject.close("A unit was mixed up.", SAYS, actions=("Mended it.",))


class Holds(Machine):
    TITLE = "Legal hold"
    kind = Hold
    FLAWS: ClassVar = {
        "free": ("placer", "role", "strange", "over"),
        "lift": ("placer", "role", "over"),
    }

    def begin(self) -> None:
        self.decisions.store(
            Hold.placed(
                "1",
                ground="File 7",
                actor=ASKS,
                role="legal",
                indexes=tuple(range(1000)),
                streams=("note/x",),
                until=EXPIRES,
            )
        )

    def free(self, subject: Hold, flaw: str | None) -> None:
        index = 5_000 if flaw == "strange" else self.number()
        self._lift(subject, flaw, (index,))

    def lift(self, subject: Hold, flaw: str | None) -> None:
        self._lift(subject, flaw, ())

    def _lift(self, subject: Hold, flaw: str | None, indexes: tuple[int, ...]) -> None:
        subject.lift(
            "It is settled.",
            ASKS if flaw == "placer" else SAYS,
            now=LATE if flaw == "over" else EARLY,
            role="legal" if flaw == "role" else "privacy",
            indexes=indexes,
        )


class Erasures(Machine):
    TITLE = "Erasure"
    kind = Erasure
    FLAWS: ClassVar = {
        "change": ("nothing",),
        "grant": ("author", "one person", "meaning", "late", "digest"),
        "block": ("elsewhere",),
        "start": ("held", "late"),
        "erase": ("strange", "nothing"),
        "close: erased": (),
        "close: refused": ("no reason",),
    }
    HELD: ClassVar = {"hold/1": (7,)}

    def begin(self) -> None:
        self.decisions.store(Erasure.requested("1", indexes=(7, 8), ground="Art. 17", actor=ASKS))

    @property
    def state(self) -> str:
        found = self.load()
        detail = {"blocked": "begun" if found.begun else "", "closed": found.outcome}
        return ", ".join(filter(None, (found.status, detail.get(found.status, ""))))

    def change(self, subject: Erasure, flaw: str | None) -> None:
        indexes = () if flaw == "nothing" else (7, 8)
        subject.change(indexes, f"Art. 17, {self.number()}", ASKS)

    def grant(self, subject: Erasure, flaw: str | None) -> tuple[Approval, ...]:
        if subject.status == "granted" and flaw is None:
            names = [stream.removeprefix("approval/") for stream in subject.granted.approvals]  # type: ignore[union-attr]
            again = tuple(self.decisions.get(Approval, name) for name in names)
            subject.grant(again, ASKS, now=EARLY)
            return again
        digest = OTHER if flaw == "digest" else subject.digest
        meaning = "reviewed" if flaw == "meaning" else erasure.MEANING
        people = {"author": (SAYS, ASKS), "one person": (SAYS, SAYS)}.get(flaw or "", (SAYS, ALSO))
        given = tuple(
            yes(f"e{self.number()}", digest, meaning, by, asker="service:desk") for by in people
        )
        subject.grant(given, ASKS, now=LATE if flaw == "late" else EARLY)
        return given

    def block(self, subject: Erasure, flaw: str | None) -> None:
        subject.block({"hold/1": (99,)} if flaw == "elsewhere" else self.HELD, ASKS)

    def start(self, subject: Erasure, flaw: str | None) -> None:
        late = flaw == "late" and not subject.begun
        held = self.HELD if flaw is not None and not late else {}
        subject.start(held, ACTS, now=LATE if late else EARLY)

    def erase(self, subject: Erasure, flaw: str | None) -> None:
        indexes = {"strange": (7, 99), "nothing": ()}.get(flaw or "", (7, 8))
        subject.carried_out(indexes, {"payloads_deleted": 2}, ACTS)

    def close_erased(self, subject: Erasure, flaw: str | None) -> None:
        subject.close("erased", ASKS)

    def close_refused(self, subject: Erasure, flaw: str | None) -> None:
        subject.close("refused", ASKS, why="" if flaw else "Art. 17(3)(b)")


MACHINES: tuple[type[Machine], ...] = (Approvals, Releases, Incidents, Holds, Erasures)
