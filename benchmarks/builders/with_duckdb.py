"""DuckDB doing the same work on the same Parquet."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import duckdb

from benchmarks.builders.clock import measure, print_figures

QUERY = """
COPY (
  WITH known AS (
    SELECT *, row_number() OVER (PARTITION BY source, event_id ORDER BY known_at DESC) AS newest
    FROM read_parquet('{source}/events/*.parquet') WHERE known_at < TIMESTAMPTZ '{day} 00:00:00+00'
  ), visible AS (
    SELECT user_id,
      list({{event_type: event_type, event_at: event_at, known_at: known_at, amount: amount, currency: currency,
             days_past_due: days_past_due, attributes: attributes}}
           ORDER BY event_at, known_at, source, event_id) AS events,
      count(*)::INT AS events_used,
      sha256(string_agg(concat_ws(chr(9), source, event_id, epoch_us(known_at)), ','
             ORDER BY event_at, known_at, source, event_id)) AS events_hash
    FROM known WHERE newest = 1 AND op = 'upsert' AND event_at < TIMESTAMPTZ '{day} 00:00:00+00' GROUP BY user_id
  ), profile AS (
    SELECT user_id, arg_max(attributes, (valid_from, known_at)) AS profile
    FROM read_parquet('{source}/profiles/*.parquet')
    WHERE valid_from < TIMESTAMPTZ '{day} 00:00:00+00' AND known_at < TIMESTAMPTZ '{day} 00:00:00+00' GROUP BY user_id
  )
  SELECT visible.*, profile.profile FROM visible LEFT JOIN profile USING (user_id)
) TO '{target}' (FORMAT parquet, COMPRESSION snappy)
"""


def main(source: str, target: str, day: str, threads: str) -> None:
    """Builds and reports."""
    connection = duckdb.connect()
    connection.execute(f"SET threads = {int(threads)}; SET TimeZone = 'UTC'; SET preserve_insertion_order = false")
    connection.execute(f"SET memory_limit = '8GB'; SET temp_directory = '{target}.spill'")
    print_figures(measure(lambda: connection.execute(QUERY.format(source=source, target=target, day=day))))


if __name__ == "__main__":
    main(*sys.argv[1:])
