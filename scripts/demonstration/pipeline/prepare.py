"""Read the raw patients, clean them, split them: data/raw/patients.csv -> data/prepared/."""

import csv
import json
import random
from pathlib import Path

params = json.loads(Path("params.json").read_text())


def clean(rows):
    """Keep the rows that are complete."""
    return [row for row in rows if all(row.values())]


with Path("data/raw/patients.csv").open(newline="") as file:
    patients = clean(list(csv.DictReader(file)))
random.Random(params["seed"]).shuffle(patients)
cut = int(len(patients) * params["train_share"])

folder = Path("data/prepared")
folder.mkdir(parents=True, exist_ok=True)
for name, rows in (("train.csv", patients[:cut]), ("validation.csv", patients[cut:])):
    with (folder / name).open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=patients[0].keys())
        writer.writeheader()
        writer.writerows(rows)
print(f"{len(patients)} patients: {cut} to train on, {len(patients) - cut} to validate with")
