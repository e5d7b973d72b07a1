"""The ledger: what is hashed, signed, stored and proved. It imports no other room.

Read it from the ground up: `hashing` and `canonical`; `commitment`, `entry`, `merkle`, `tiles`,
`note`; `chain`, `checkpoint`, `proof`, `receipt`, `bundle`; then `store`, `writer`, `reader`,
`audit`. The bytes are specified, example first, in docs/spec/.
"""
