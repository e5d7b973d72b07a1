"""A real pipeline: recorded, questioned, tampered with, rolled back, proven."""
