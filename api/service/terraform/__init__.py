"""The state backend of Terraform and OpenTofu (docs/terraform.md).

A state is sealed and kept before its sender is answered; what the ledger says of it follows, and
holds no value of it. `backend` is the whole, over `states` (the file), `sealing` (the cipher) and
`reading` (what is told of a state and of a lock); `telling` brings facts to the ledger.
"""
