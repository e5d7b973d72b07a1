"""The doors: commands go to the writer, questions go to the projections and the reader.

`api.main` puts the rooms together and is the only file that names the connectors; `api.settings` is
the only file that reads the environment; `api.cli` is the command line. Nothing here holds a rule.
"""

from __future__ import annotations

__all__ = ["__version__"]

__version__ = "0.1.0"
