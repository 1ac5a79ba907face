"""Builds that take over what a former one left. Every result equals the build from the whole history, row for row."""
