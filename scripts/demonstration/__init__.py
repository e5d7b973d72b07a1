"""A real pipeline, recorded, questioned, tampered with, rolled back and proven: `./scripts/demo`."""
