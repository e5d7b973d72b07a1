"""Answers: folds over the ledger's entries, on both time axes, each with the basis that it stands
on.

Nothing here writes to a ledger or reads a clock; `now` is always passed in. Where to begin:

* `at` reads what people type after `--at` and turns it into a position on both axes;
* `fold` is the rule by which entries become facts, pure and associative;
* `state` is the answer; `index` finds it fast, `replay` finds it again from the entries alone;
* `diff`, `history`, `lineage`, `impact`, `log` and `plan` are the other questions.
"""
