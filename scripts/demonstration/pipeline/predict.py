"""What the service would answer for each patient of the clinic, one number a line."""

import joblib
from features import load

for value in joblib.load("model/model.joblib").predict(load("data/clinic/patients.csv")[0]):
    print(repr(float(value)))
