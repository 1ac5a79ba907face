"""One user as one token tree: build, attention mask, positions, losses (torch only)."""
