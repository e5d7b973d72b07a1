"""What the client records of runs, versions and measurements, checked by the ledger's own door."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import json
import logging
import pickle
import random
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asof
import numpy as np
import pytest
from asof.bench import measured
from asof.frames import frame_digest

from tests.support.append_server import AppendServer


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AppendServer]:
    """The server that the module's own client records to; it refuses what no ledger takes."""
    monkeypatch.setattr(asof, "_made", None)
    with AppendServer() as made:
        client = asof.configure(
            server=made.url, ledger="acme", pipeline="p", stage="prod", spool=tmp_path / "spool"
        )
        yield made
        client.close(5)
        assert not (client.folder / "refused.jsonl").exists(), "the ledger takes each event"


def recorded(server: AppendServer) -> list[tuple[str, dict[str, Any]]]:
    assert asof.flush(10)
    return server.events()[1:]


def test_all_that_can_be_recorded_is_an_event_of_the_vocabulary(
    server: AppendServer, tmp_path: Path
) -> None:
    path = tmp_path / "orders.csv"
    path.write_text("day,units\n")
    orders = asof.record_dataset(path, name="orders", metadata={"rows": 0})
    with asof.run("training", inputs=[orders], params={"alpha": 0.5, "odd": object}) as run:
        asof.record_config({"a": [1, None, float("inf")]}, name="c", parents=orders)
        asof.record_metrics({"loss": np.float32(0.5), "steps": np.int64(3), "bad": float("nan")})
        model = asof.record_model(path, name="m", version="7")
        run.record_dataset(np.ones(3), name="predictions")
    asof.record_evaluation(model, orders, {"mape_percent": 7.9}, n=4210, passed=True)
    asof.bind("model", model, reason="better")
    asof.record_metrics({"outside": 1})
    assert [name for name, _ in recorded(server)] == [
        "asset.version.recorded/1",
        "run.started/1",
        "asset.version.recorded/1",
        "asset.version.recorded/1",
        "asset.version.recorded/1",
        "run.finished/1",
        "evaluation.recorded/1",
        "binding.changed/1",
        "note.added/1",
    ]
    data = [one for _, one in recorded(server)]
    assert data[0]["digest"] == f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    assert data[3]["parents"] == run.inputs and len(run.inputs) == 2, (
        "the configuration is an input"
    )
    assert data[5]["outputs"] == [str(model), run.outputs[1]]
    assert data[5]["metrics"] == {"loss": 0.5, "steps": 3, "seconds": data[5]["metrics"]["seconds"]}
    assert data[5]["reason"] == "bad was nan"
    assert data[6]["metrics"] == {"mape_percent": {"value": 7.9, "n": 4210}}


@pytest.mark.parametrize(
    ("raised", "status"),
    [
        (None, "succeeded"),
        (SystemExit(0), "succeeded"),
        (SystemExit("no"), "cancelled"),
        (KeyboardInterrupt(), "cancelled"),
        (ValueError("about a person"), "failed"),
    ],
)
def test_how_a_run_ends(raised: BaseException | None, status: str, server: AppendServer) -> None:
    try:
        with asof.run(inputs="dataset/one@1"):
            if raised is not None:
                raise raised
    except BaseException as error:
        assert error is raised
    (_, started), (_, finished) = recorded(server)
    assert started["inputs"] == ["dataset/one@1"], "one input is one, not its letters"
    assert finished["status"] == status and "person" not in json.dumps(finished)


def test_functions_are_runs(server: AppendServer) -> None:
    @asof.track(kind="evaluation", name="nightly")
    def judge(model: str, *, bar: float = 0.5) -> str:
        """Kept."""
        return model.upper()

    @asof.track
    async def later(number: int) -> int:
        return number + 1

    assert judge("m", bar=0.7) == "M" and asyncio.run(later(1)) == 2
    assert (judge.__name__, judge.__doc__) == ("judge", "Kept.")
    assert asof.track(max)(1, 2) == 2, "of a built-in function, too"
    with pytest.raises(TypeError, match="model"):
        judge()
    started = [data for name, data in recorded(server) if name == "run.started/1"]
    assert [one["kind"] for one in started] == ["evaluation", "training", "training", "evaluation"]
    assert started[0]["run"].startswith("nightly-")
    assert (started[0]["params"]["model"], started[0]["params"]["bar"]) == ("m", 0.7)


def test_nothing_of_this_raises_unless_strict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(asof, "_made", None)

    class Odd:
        def __repr__(self) -> str:
            raise RuntimeError("no")

        def get_params(self) -> dict[str, object]:
            raise RuntimeError("no")

    (tmp_path / "file").write_text("")
    made = asof.configure(spool=tmp_path / "file" / "spool")  # cannot be made: a file is in the way
    with caplog.at_level(logging.WARNING, "asof"), asof.run(params={"odd": Odd(), 3: {1, 2}}):
        asof.record_model(Odd(), name="odd")
        missing = asof.record_dataset(tmp_path / "missing.csv", name="missing")
        number = asof.record_dataset(tmp_path / "bad\udcff", name="bad")
        asof.record("note.added/1", {"text": Odd()}, stream="note/odd")
    assert (missing, missing.digest) == ("dataset/missing@unknown", "") and not number.digest
    assert "missing.csv" in caplog.text and "Not a directory" in caplog.text
    strict = asof.configure(spool=tmp_path / "strict", strict=True, timeout=0.1)
    with pytest.raises(asof.AsofError, match=r"missing\.csv"):
        asof.record_dataset(tmp_path / "missing.csv", name="missing")
    with pytest.raises(asof.AsofError, match=r"NaN|JSON"):
        asof.record("note.added/1", {"text": float("nan")})
    with pytest.raises(asof.NotSentError, match=r"ASOF_SERVER|not acknowledged"):
        asof.record("note.added/1", {"text": "x"}, stream="note/x")
    with pytest.raises(asof.AsofError, match="offset"):
        import datetime

        asof.state("p", at=datetime.datetime(2026, 11, 1))  # noqa: DTZ001 - that is the point
    made.close()
    strict.close()


def test_a_call_costs_less_than_a_tenth_of_a_millisecond(tmp_path: Path) -> None:
    """At rest it is 15 µs. Other tests may run beside this one: the best of five rounds counts."""
    client = asof.Client(spool=tmp_path)
    assert min(statistics.median(measured(client, 300)) for _ in range(5)) < 100e-6
    client.close()


def test_a_seeded_training_draws_the_same_numbers(tmp_path: Path) -> None:
    """Also while the sender works, and pauses, beside it."""
    client = asof.Client(server="http://127.0.0.1:9", ledger="acme", spool=tmp_path)
    random.seed(7)
    expected = [random.random() for _ in range(3)]
    random.seed(7)
    client.record("note.added/1", {"text": "x"}, stream="note/x")
    client.flush(0.5)
    assert [random.random() for _ in range(3)] == expected
    assert "not answer" in str(client._sender.trouble), "the sender has paused"
    client.close()


def test_what_nobody_waits_for_takes_no_memory(tmp_path: Path) -> None:
    client = asof.Client(spool=tmp_path)
    kept = [client.record("note.added/1", {"text": "x"}, stream="note/x") for _ in range(3)]
    for _ in range(200):
        client.record("note.added/1", {"text": "x"}, stream="note/x")
    gc.collect()
    assert len(client._waiting) == len(kept)
    client.close()


def test_a_spool_that_others_have_emptied_takes_records_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asof.spool.RECOUNT_SECONDS", 0.0)
    (tmp_path / "0-other.spool").write_bytes(bytes(1_900))
    client = asof.Client(spool=tmp_path, spool_bytes=2_000)
    full = client.record("note.added/1", {"text": "x"}, stream="note/x")
    assert isinstance(full.error, asof.NotSentError) and "limit" in str(full.error)
    (tmp_path / "0-other.spool").unlink()
    assert client.record("note.added/1", {"text": "x"}, stream="note/x").error is None
    client.close()


# ------------------------------------------------------------------------------------------ frames


class Frame:
    """What pandas and polars have in common: neither is among the packages of the tests."""

    def __init__(self, **columns: Any) -> None:
        self.columns = list(columns)
        self.dtypes = None
        self._of = {name: np.asarray(values) for name, values in columns.items()}
        self.shape = (len(next(iter(self._of.values()))), len(columns))

    def __getitem__(self, name: str) -> Any:
        values = self._of[name]
        told = {"name": name, "shape": values.shape, "dtype": values.dtype}
        return type("Series", (), {**told, "to_numpy": lambda self: values})()


def test_a_frame_has_the_digest_of_its_values() -> None:
    """The bytes of `asof.frame/1`, put together by hand."""
    told = frame_digest(Frame(day=["mon", None], units=np.array([1, 2], dtype=">i4")))
    head = b'{"columns":[["day","text"],["units","<i4"]],"format":"asof.frame/1","shape":[2,2]}'
    days, units = b'["mon",null]', b"\1\0\0\0\2\0\0\0"
    content = head + b"\n" + len(days).to_bytes(8, "little") + days
    content += b"\n" + len(units).to_bytes(8, "little") + units
    assert told[0] == f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert told[1]["shape"] == [2, 2] and told[1]["columns"] == ["day", "units"]


def test_other_values_have_another_digest() -> None:
    frames: list[Any] = [
        Frame(a=[1, 2]),
        Frame(a=[2, 1]),
        Frame(b=[1, 2]),
        Frame(a=[1.0, 2.0]),
        Frame(a=["1", "2"]),
        Frame(a=[1], b=[2]),
        Frame(a=[1, 2])["a"],
        np.array([1, 2]),
        np.array([[1], [2]]),
        np.array([[1, 2]]),
        np.array([1, 2], dtype="int32"),
        np.array(["2026-11-21"], dtype="M8[D]"),
    ]
    assert len({frame_digest(one)[0] for one in frames}) == len(frames)
    whole = np.arange(12).reshape(3, 4)
    assert frame_digest(whole.T[::2])[0] == frame_digest(whole.T[::2].copy())[0]
    missing = Frame(a=np.array(["x", float("nan")], dtype=object))
    assert frame_digest(missing)[0] == frame_digest(Frame(a=["x", None]))[0]


# --------------------------------------------------------------------------------------- notebooks


def test_what_a_notebook_shows_is_escaped(server: AppendServer, tmp_path: Path) -> None:
    run = asof.run("training", name="<b>", params={})
    reference = asof.Reference("model/<script>@1", "sha256:0")
    done = asof.record("note.added/1", {"text": "x"}, stream="note/<x>")
    assert done.wait(10) and done.receipt is not None
    shown = [run, reference, done, done.receipt, asof.verify(done)]
    for one in shown:
        html = one._repr_html_()
        assert html.startswith("<table>") and "<script" not in html and "<b>" not in html
    assert pickle.loads(pickle.dumps(reference)).digest == "sha256:0"


def test_the_public_names_are_there_and_typed() -> None:
    assert all(hasattr(asof, name) for name in asof.__all__)
    assert sorted(asof.__all__) == asof.__all__
    assert Path(sys.modules["asof"].__file__ or "").with_name("py.typed").exists()
