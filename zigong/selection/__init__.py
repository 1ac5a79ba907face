"""Selects the training mix from influence scores."""
