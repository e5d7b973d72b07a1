"""What went wrong, as RFC 9457 says it: one table from the house's errors to status and type.

::

    HTTP/1.1 422 Unprocessable Content
    Content-Type: application/problem+json

    {"type": "/problems/unfit-event", "title": "The event does not fit its type", "status": 422,
     "detail": "/data/text: …", "instance": "urn:request:5f0c…", "pointer": "/data/text"}

Each type has a page, `/problems/<slug>`, made from `PROBLEMS`. docs/spec/http.md, rule 10.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import orjson
from starlette.responses import Response

from ledger.errors import (
    AsofError,
    ConflictError,
    IncompleteError,
    MalformedError,
    NotFoundError,
    RefusedError,
    StoreError,
    TamperError,
    UnknownOutcomeError,
)

__all__ = ["PROBLEMS", "Problem", "ProblemError", "problem_of", "problem_response"]


@dataclass(frozen=True, slots=True)
class Problem:
    """A kind of problem: what its page says."""

    slug: str
    status: int
    title: str
    meaning: str
    remedy: str


_ALL: Final = (
    Problem(
        "malformed",
        400,
        "The request cannot be read",
        "A parameter or the body is not what this route takes. The detail names the place; where "
        "it "
        "lies in a JSON body, `pointer` is its JSON pointer.",
        "Mend that place and send the request again. Nothing was written.",
    ),
    Problem(
        "unauthenticated",
        401,
        "No valid credential",
        "The request carries no token, or one that is malformed, unknown, expired or revoked. "
        "Which "
        "of these is not said.",
        "Send `Authorization: Bearer asof_live_…`. Whoever administers the ledger makes a token "
        "with "
        "`asof tokens create`.",
    ),
    Problem(
        "not-allowed",
        403,
        "The role does not reach this far",
        "The caller is known, and none of its roles in this ledger has the permission that the "
        "route "
        "needs.",
        "Ask for a role that has it: `GET /v1/whoami` says which you have.",
    ),
    Problem(
        "refused",
        403,
        "A rule of the ledger says no",
        "The caller may ask, and what was asked is not possible as things stand: an invalid "
        "transition, a missing approval, an approval of one's own request.",
        "The detail says in which state the subject is and what can be done.",
    ),
    Problem(
        "not-found",
        404,
        "There is no such thing",
        "No such path, ledger, entry, pipeline or version; or a ledger in which the caller has no "
        "role.",
        "Look at the spelling; `GET /v1/ledgers` lists the ledgers.",
    ),
    Problem(
        "method-not-allowed",
        405,
        "Not with this method",
        "The path exists and does not take this method.",
        "The Allow header lists the methods that it takes.",
    ),
    Problem(
        "not-acceptable",
        406,
        "Not in this form",
        "The route cannot answer in any of the forms that Accept asks for.",
        "Ask for application/json; lists come as application/x-ndjson and text/csv too.",
    ),
    Problem(
        "timeout",
        408,
        "The request took too long to arrive",
        "Headers or body did not arrive within the time that the server waits.",
        "Send it again; large histories belong into batches, or into `asof import`. Nothing was "
        "written.",
    ),
    Problem(
        "conflict",
        409,
        "Somebody else was first",
        "What the request stood on has changed: a stream has moved on, an id is taken.",
        "Read again, decide again. Nothing was written.",
    ),
    Problem(
        "locked",
        423,
        "Somebody else holds the lock",
        "The state of Terraform is locked under another id. The members `ID`, `Who`, `Operation` "
        "and `Created` are its holder's.",
        "Wait until it has ended. If nobody is at work any more: `terraform force-unlock ID`. A "
        "state that could not be sent is in `errored.tfstate`, for `terraform state push`.",
    ),
    Problem(
        "precondition-failed",
        412,
        "Another version than the one named",
        "If-Match names a version that is not the current one.",
        "Read again, decide again. Nothing was written.",
    ),
    Problem(
        "too-large",
        413,
        "Too large",
        "The body, unpacked or not, or the number of events in it, is beyond the limit.",
        "Send smaller batches; the detail says the limit. Nothing was written.",
    ),
    Problem(
        "unsupported-media-type",
        415,
        "Not in this media type",
        "The body is not in a type, charset or encoding that the route takes.",
        "Send application/json or application/x-ndjson in UTF-8, packed with gzip or not at all.",
    ),
    Problem(
        "unfit-event",
        422,
        "The event does not fit its type",
        "The body was read, and an event in it is not what its type says: unknown type, missing or "
        "wrong field, a secret among the values.",
        "`pointer` leads to the place; docs/events.md has every type. Nothing of the batch was "
        "written.",
    ),
    Problem(
        "idempotency-key-missing",
        400,
        "No Idempotency-Key",
        "Every request that appends needs an Idempotency-Key of 1 to 255 visible ASCII "
        "characters, so "
        "that it can be sent again when its outcome is unknown.",
        "Send `Idempotency-Key: <a new UUID>`, and the same one when you repeat the request.",
    ),
    Problem(
        "idempotency-key-reused",
        422,
        "The key stands for another body",
        "This Idempotency-Key was used before, for something else.",
        "Use a new key for a new request. Nothing was written.",
    ),
    Problem(
        "too-many-requests",
        429,
        "Too many requests",
        "The caller has used up what it may ask for in this time.",
        "Wait as long as Retry-After says; several events fit into one batch.",
    ),
    Problem(
        "tampered",
        500,
        "What is stored is not what was signed",
        "Evidence of tampering or damage was found while answering. `evidence` holds the entry, "
        "what "
        "was expected and what was found.",
        "Do not repair anything. Keep a copy of the store, run `asof verify`, compare with "
        "receipts.",
    ),
    Problem(
        "incomplete",
        500,
        "It could not be verified",
        "Something that the answer has to be checked with is missing. It is neither good nor bad.",
        "The detail says what is missing.",
    ),
    Problem(
        "internal",
        500,
        "A mistake of ours",
        "The server met a case that it does not know. Nothing was acknowledged.",
        "Tell us the request's id, which is `instance`: the server's log has the cause under it.",
    ),
    Problem(
        "unavailable",
        503,
        "Not now",
        "The store does not answer, or the server has as much work as it can take. Nothing was "
        "written.",
        "Repeat the request with the same Idempotency-Key after the time that Retry-After says.",
    ),
    Problem(
        "outcome-unknown",
        503,
        "The outcome is unknown",
        "The connection to the store was lost while it committed: the batch was written as a "
        "whole or "
        "not at all.",
        "Repeat the request with the same Idempotency-Key: the answer tells which.",
    ),
)
PROBLEMS: Final[dict[str, Problem]] = {problem.slug: problem for problem in _ALL}

RETRY_AFTER_SECONDS: Final = 1

_SLUGS: Final[tuple[tuple[type[AsofError], str], ...]] = (
    (MalformedError, "malformed"),
    (RefusedError, "refused"),
    (ConflictError, "conflict"),
    (NotFoundError, "not-found"),
    (UnknownOutcomeError, "outcome-unknown"),
    (StoreError, "unavailable"),
    (TamperError, "tampered"),
    (IncompleteError, "incomplete"),
)


class ProblemError(Exception):
    """A problem of the door itself, raised by layers and routes: `slug` of the table, in words."""

    def __init__(
        self,
        slug: str,
        detail: str,
        *,
        pointer: str = "",
        headers: dict[str, str] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(detail)
        self.problem = PROBLEMS[slug]
        self.detail = detail
        self.pointer = pointer
        self.headers = headers or {}
        self.more = more


def problem_of(error: AsofError) -> ProblemError:
    """The problem that an error of the house is."""
    slug = next((slug for kind, slug in _SLUGS if isinstance(error, kind)), "internal")
    headers = {"Retry-After": str(RETRY_AFTER_SECONDS)} if PROBLEMS[slug].status == 503 else {}
    more: dict[str, Any] = {}
    if isinstance(error, TamperError):
        more["evidence"] = {
            "index": error.index,
            "expected": error.expected,
            "found": error.found,
            "checkpoints": [
                checkpoint.decode("utf-8", "replace") for checkpoint in error.checkpoints
            ],
        }
    where = error.where if isinstance(error, MalformedError) else ""
    pointer = where if where.startswith("/") else ""
    return ProblemError(slug, str(error), pointer=pointer, headers=headers, **more)


def problem_response(error: ProblemError, request_id: str) -> Response:
    """The answer: application/problem+json, never cached."""
    problem = error.problem
    body: dict[str, Any] = {
        "type": f"/problems/{problem.slug}",
        "title": problem.title,
        "status": problem.status,
        "detail": error.detail,
        "instance": f"urn:request:{request_id}",
        **({"pointer": error.pointer} if error.pointer else {}),
        **error.more,
    }
    return Response(
        orjson.dumps(body),
        status_code=problem.status,
        media_type="application/problem+json",
        headers={"Cache-Control": "no-store", **error.headers},
    )
