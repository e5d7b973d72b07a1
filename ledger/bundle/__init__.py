"""Bundles: one ZIP file by which a stranger checks a claim offline (docs/spec/bundle.md).

`container` is the file in which no bit is free, `manifest` its contents list, `build` writes one,
`check` reads one, `question` recomputes the state that a bundle claims.
"""

from __future__ import annotations

from ledger.bundle.build import build_bundle, bundle_state, entry_tiles
from ledger.bundle.check import check_bundle, read_bundle

__all__ = ["build_bundle", "bundle_state", "check_bundle", "entry_tiles", "read_bundle"]
