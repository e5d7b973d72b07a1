"""What other systems send: taken in durably, answered, then recorded (docs/ingest.md)."""
