"""Influence scores to the training mix."""
