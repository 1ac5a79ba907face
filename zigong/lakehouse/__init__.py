"""The only package that opens the tables of the lakehouse: session, paths, pinned reads, and audited writes."""
