"""The same sequences built four ways: each file is a separate program, `FILE INPUT OUTPUT YYYY-MM-DD THREADS`.

INPUT contains events/ and profiles/ as Parquet. Each method writes one row per user with an event as of T (UTC
midnight): user_id, events (in order of event_at, known_at, source, event_id), events_used, events_hash, profile. Each
prints one line of JSON: wall and CPU seconds from the first read to the last byte written, start of the engine not
counted.
"""
