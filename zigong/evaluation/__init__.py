"""Answers, metrics and baselines."""
