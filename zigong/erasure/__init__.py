"""The only package that erases users: it deletes their rows, rewrites files, and verifies that no trace is left."""
