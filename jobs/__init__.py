"""Thin entry points: parse arguments, open the engine, call the library, report."""
