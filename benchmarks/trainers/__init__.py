"""Trainings of the training benchmark, each a program of its own."""
