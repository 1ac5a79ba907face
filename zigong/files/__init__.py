"""Atomic writes of files and folders, and their digests."""
