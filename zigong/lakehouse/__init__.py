"""The only room that opens Delta: session, paths, pinned reads, and stage-audit-promote writes."""
