"""The one way from a CSV file to what the model eats."""

import csv
from pathlib import Path

import numpy


def load(path):
    """The features and the target (disease progression after a year) of a prepared file."""
    with Path(path).open(newline="") as file:
        rows = list(csv.DictReader(file))
    target = numpy.array([float(row.pop("progression")) for row in rows])
    return numpy.array([[float(value) for value in row.values()] for row in rows]), target
