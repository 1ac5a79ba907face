"""The only room that erases users: what holds them, rows and files without them, and the check that none is left."""
