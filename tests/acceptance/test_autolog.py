"""`asof.autolog()` with the real libraries: fits become runs, results stay what they are."""

from __future__ import annotations

import subprocess
import sys
import types
from collections.abc import Iterator
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import asof
import pytest

from tests.support.service import CHECKOUT


class Kept(asof.Client):
    """Keeps what is recorded; nothing is sent."""

    def __init__(self, folder: Path) -> None:
        super().__init__(spool=folder, pipeline="p", stage="production")
        self.kept: list[tuple[str, dict[str, Any]]] = []

    def record(self, type_name: str, data: Any, *, stream: str | None = None) -> Any:
        self.kept.append((type_name, dict(data)))
        return None

    def runs(self) -> list[dict[str, Any]]:
        return [data for name, data in self.kept if name == "run.started/1"]


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kept]:
    made = Kept(tmp_path)
    monkeypatch.setattr(asof, "_made", made)
    asof.autolog()
    yield made
    asof.autolog(disable=True)


def test_scikit_learn(kept: Kept) -> None:
    import joblib
    import numpy as np
    from sklearn.base import BaseEstimator, RegressorMixin
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    asof.autolog()
    x, y = np.arange(40.0).reshape(20, 2), np.arange(20.0)
    watched = Ridge(alpha=0.5).fit(x, y)
    (run,) = kept.runs()
    assert run["params"]["class"].endswith("Ridge") and run["params"]["parameters"]["alpha"] == 0.5
    assert run["params"]["data_shape"] == [20, 2]
    search = GridSearchCV(
        make_pipeline(StandardScaler(), Ridge()), {"ridge__alpha": [0.1, 1.0]}, cv=2
    )
    search.fit(x, y)
    assert len(kept.runs()) == 2, "a fit inside a fit belongs to the outer one"

    with joblib.parallel_backend("threading"):
        GridSearchCV(Ridge(), {"alpha": [0.1, 1.0]}, cv=2, n_jobs=2).fit(x, y)
    assert len(kept.runs()) == 3, "in the threads of the outer one, too"
    with ThreadPool(2) as pool:
        pool.map(lambda alpha: Ridge(alpha=alpha).fit(x, y), (0.1, 1.0))
    assert len(kept.runs()) == 5, "fits in threads that no fit has made are fits"

    class Later(RegressorMixin, BaseEstimator):
        def fit(self, X: Any, y: Any) -> Any:  # noqa: N803
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        Later().fit(x, y)
    assert kept.kept[-1] == ("run.finished/1", kept.kept[-1][1])
    assert kept.kept[-1][1]["status"] == "failed"
    asof.autolog(disable=True)
    plain = Ridge(alpha=0.5).fit(x, y)
    assert (plain.coef_ == watched.coef_).all() and len(kept.runs()) == 6


def test_xgboost_and_lightgbm(kept: Kept) -> None:
    import lightgbm
    import numpy as np
    import xgboost

    asof.autolog()
    x, y = np.random.default_rng(1).random((60, 3)), np.arange(60.0)
    xgboost.train({"max_depth": 2}, xgboost.DMatrix(x, y), num_boost_round=2)
    lightgbm.train({"num_leaves": 4, "verbose": -1}, lightgbm.Dataset(x, y), num_boost_round=2)
    xgboost.XGBRegressor(n_estimators=2).fit(x, y)
    lightgbm.LGBMRegressor(n_estimators=2, verbose=-1).fit(x, y)
    told = [run["params"] for run in kept.runs()]
    assert [one["class"].rpartition(".")[2] for one in told] == [
        "train",
        "train",
        "XGBRegressor",
        "LGBMRegressor",
    ]
    assert told[0]["parameters"] == {"max_depth": 2} and told[0]["data_shape"] == [60, 3]


def test_pytorch_saves(kept: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch is not among the packages of the tests: a module with its `save` stands in for it."""
    torch, serialization = types.ModuleType("torch"), types.ModuleType("torch.serialization")

    def save(obj: object, f: Any, **more: object) -> None:
        Path(f).write_bytes(repr(obj).encode())

    torch.save = serialization.save = save  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch.serialization", serialization)
    assert "torch.serialization" in asof.autolog()
    with asof.run("training") as run:
        torch.save({"weights": [1]}, tmp_path / "net.pt")
    name, data = kept.kept[-2]
    assert name == "asset.version.recorded/1" and data["name"] == "net"
    assert run.outputs == [f"model/net@{data['version']}"]
    asof.autolog(disable=True)
    assert torch.save is save


def test_a_library_that_is_imported_later_is_watched(tmp_path: Path) -> None:
    """In a process in which nothing is imported yet; and the control without autolog."""
    program = """
import sys, asof
made = asof.configure(spool=sys.argv[1])
seen = []
made.record = lambda name, data, stream=None: seen.append((name, dict(data)))
if sys.argv[2] == "on":
    assert asof.autolog() == []
import numpy, sklearn.linear_model, xgboost
sklearn.linear_model.Ridge().fit(numpy.ones((3, 1)), numpy.ones(3))
xgboost.train({}, xgboost.DMatrix(numpy.ones((3, 1)), numpy.ones(3)), num_boost_round=1)
print([data["params"]["class"].split(".")[0] for name, data in seen if name == "run.started/1"])
"""
    for switch, expected in (("on", "['sklearn', 'xgboost']"), ("off", "[]")):
        done = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path), switch],
            env={"PYTHONPATH": str(CHECKOUT / "client" / "src"), "PATH": ""},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == expected
