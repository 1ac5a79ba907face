"""Samples as columns, batches and losses; one user as one token tree: attention mask, positions (torch only)."""
