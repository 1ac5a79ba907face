"""Row rules and GX suites derived from the contracts, and the verdict on a table."""
