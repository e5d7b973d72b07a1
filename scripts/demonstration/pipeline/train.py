"""Fit the model: data/prepared/train.csv -> model/model.joblib."""

import json
from pathlib import Path

import joblib
from features import load
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

params = json.loads(Path("params.json").read_text())
x, y = load("data/prepared/train.csv")
model = make_pipeline(StandardScaler(), Ridge(alpha=params["alpha"])).fit(x, y)
Path("model").mkdir(exist_ok=True)
joblib.dump(model, "model/model.joblib")
print(f"trained on {len(y)} patients with alpha {params['alpha']}")
