"""The only room that opens the lakehouse's tables: session, paths, pinned reads, and stage-audit-promote writes."""
