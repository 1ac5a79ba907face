"""Gate, score scaling, registry and model card."""
