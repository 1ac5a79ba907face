"""Renders sequences as instruction text and token ids; training, scoring and serving share one code path."""
