"""One key, one answer: also at once, also after a failure, and not for ever."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest
from starlette.responses import Response

from api.service import remembering
from api.service.problems import ProblemError
from api.service.remembering import Remembered


def test_the_first_answer_again_and_another_body_refused() -> None:
    async def asked() -> None:
        kept, made = Remembered(), 0

        async def make() -> Response:
            nonlocal made
            made += 1
            await asyncio.sleep(0.01)
            return Response(f"answer {made}")

        both = await asyncio.gather(kept.once("k", b"a", make), kept.once("k", b"a", make))
        assert [(answer.body, again) for answer, again in both] == [
            (b"answer 1", False),
            (b"answer 1", True),
        ]
        with pytest.raises(ProblemError) as caught:
            await kept.once("k", b"b", make)
        assert caught.value.problem.slug == "idempotency-key-reused"
        assert (await kept.once("other", b"b", make))[0].body == b"answer 2"

    asyncio.run(asked())


def test_a_secret_is_shown_once() -> None:
    async def asked() -> None:
        kept = Remembered()

        async def make() -> Response:
            await asyncio.sleep(0)
            return Response(b'{"id":"7","token":"hush"}', 201)

        ask = partial(kept.once, "k", b"a", make, shown_once="token")
        (first, _), (second, again) = await asyncio.gather(ask(), ask())
        assert b"hush" in first.body and again
        assert (second.status_code, second.body) == (201, b'{"id":"7","token":null}')
        assert (await ask())[0].body == second.body

    asyncio.run(asked())


def test_what_failed_may_be_tried_again() -> None:
    async def asked() -> None:
        kept, fails = Remembered(), [True, False]

        async def make() -> Response:
            await asyncio.sleep(0)
            if fails.pop(0):
                raise ProblemError("conflict", "not now")
            return Response("done")

        first, second = await asyncio.gather(
            kept.once("k", b"a", make), kept.once("k", b"a", make), return_exceptions=True
        )
        assert isinstance(first, ProblemError) and isinstance(second, ProblemError)
        assert (await kept.once("k", b"a", make))[1] is False

    asyncio.run(asked())


def test_it_is_bounded_in_number_and_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async def asked() -> None:
        kept = Remembered()

        async def make() -> Response:
            return Response("x")

        for number in range(4):
            await kept.once(str(number), b"", make)
        assert (await kept.once("3", b"", make))[1] is True
        assert (await kept.once("0", b"", make))[1] is False, "the oldest was forgotten"
        monkeypatch.setattr(remembering, "KEPT_SECONDS", 0.0)
        assert (await kept.once("3", b"", make))[1] is False

    monkeypatch.setattr(remembering, "MOST", 3)
    asyncio.run(asked())
