"""Builds a dataset: members, duplicate detection, sample sources and the audit across its tables."""
