"""Score the model, once as its makers do and once on patients whom nobody cleaned: metrics.json."""

import json
from pathlib import Path

import joblib
import numpy
from features import load

model = joblib.load("model/model.joblib")


def mean_absolute_error(path, at_least=0.0):
    x, y = load(path)
    chosen = y >= at_least
    error = model.predict(x[chosen]) - y[chosen]
    return {
        "mae": round(float(numpy.abs(error).mean()), 2),
        "bias": round(float(error.mean()), 2),
        "n": int(chosen.sum()),
    }


metrics = {
    "validation": mean_absolute_error("data/prepared/validation.csv"),
    "clinic": mean_absolute_error("data/clinic/patients.csv"),
    "clinic, severe cases": mean_absolute_error("data/clinic/patients.csv", at_least=200),
}
Path("metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
print(json.dumps(metrics))
