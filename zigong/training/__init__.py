"""Base model, adapters, trainer and checkpoint manifests."""
