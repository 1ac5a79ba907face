"""Sequences to instruction text and token ids; one render and one encode for every consumer."""
