"""A mapping and a file of events whose keys a test chooses."""

from __future__ import annotations

from pathlib import Path

from schemas.mappings import SourceMapping, parse_mapping

MAPPING = """
name: toy
data: public
title: toy
files:
  rows:
    path: rows.csv
    format: csv
    columns:
      id: {type: string, required: true, identifier: true}
      client: {type: string, required: true, identifier: true}
      day: {type: date, required: true}
      branch: {type: string}
      job: {type: string}
events: |
  SELECT USER AS user_key, EVENT AS event_key, CAST(NULL AS STRING) AS loan_key, 'upsert' AS op, 'paid' AS event_type,
    CAST(day AS TIMESTAMP) AS event_at, CAST(NULL AS DECIMAL(18,2)) AS amount, CAST(NULL AS STRING) AS currency,
    CAST(NULL AS INT) AS days_past_due, CAST(map() AS MAP<STRING, STRING>) AS attributes
  FROM ROWS
profiles: |
  SELECT client AS user_key, TIMESTAMP'2023-01-01' AS valid_from, TIMESTAMP'2023-01-01' AS known_at,
    PERSON AS person_key, CAST(map() AS MAP<STRING, STRING>) AS attributes
  FROM (SELECT DISTINCT client, branch, job FROM rows)
known_at: {lag: INTERVAL 1 DAY}
outcome_events: [paid]
"""
NOBODY = "CAST(NULL AS STRING)"


def mapping_with(
    *, user: str = "client", event: str = "id", person: str = NOBODY, rows: str = "rows", data: str = "public"
) -> SourceMapping:
    text = MAPPING.replace("USER", user).replace("EVENT", event).replace("PERSON", person).replace("ROWS", rows)
    return parse_mapping(text.replace("data: public", f"data: {data}"), origin="toy.yaml")


def write_rows(folder: Path, clients: list[str], more: list[str] | None = None) -> None:
    others = more or [","] * len(clients)
    lines = [
        f'i{number},"{client}",2023-03-01,{rest}'
        for number, (client, rest) in enumerate(zip(clients, others, strict=True))
    ]
    (folder / "rows.csv").write_text("\n".join(["id,client,day,branch,job", *lines]) + "\n", encoding="utf-8")
