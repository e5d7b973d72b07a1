"""Verification of a whole ledger (docs/spec/verification.md): `verify(store, vkey=…)` gives a
`Report`.
"""

from __future__ import annotations

from ledger.audit.whole import STEPS, GuardCheck, reopen, verify, verify_url
from ledger.verdict import Finding, Report, Verdict

__all__ = ["STEPS", "Finding", "GuardCheck", "Report", "Verdict", "reopen", "verify", "verify_url"]
