"""Incremental builds that reuse published rows. Every result equals the full build from all events, row for row."""
