"""The text of a valid contract, and the same with replacements."""

from __future__ import annotations

TEXT = """
apiVersion: v3.1.0
kind: DataContract
id: loans
name: loans
version: 1.0.0
status: active
description:
  purpose: Loans of clients.
  usage: One row per loan.
schema:
  - name: loans
    physicalType: table
    properties:
      - name: loan_id
        logicalType: string
        physicalType: string
        required: true
        primaryKey: true
        primaryKeyPosition: 1
        classification: pseudonym
        description: the loan
      - name: sample_id
        logicalType: string
        physicalType: string
        classification: pseudonym
        relationships: [{to: dataset_members.sample_id}]
        description: the sample
      - name: state
        logicalType: string
        physicalType: string
        classification: none
        description: its state
        quality:
          - name: state_is_known
            type: library
            metric: invalidValues
            mustBe: 0
            arguments: {validValues: [open, closed]}
            description: two states
      - name: amount
        logicalType: number
        physicalType: double
        classification: quasi_identifier
        description: its amount
      - name: month
        logicalType: date
        physicalType: date
        required: true
        partitioned: true
        partitionKeyPosition: 1
        classification: none
        description: its month
    quality:
      - name: has_rows
        type: library
        metric: rowCount
        mustBeGreaterThan: 0
        description: a lender has loans
      - name: amount_is_positive
        type: custom
        engine: spark-row
        implementation: amount > 0
        severity: quarantine
        description: a loan has an amount
      - name: mostly_open
        type: custom
        engine: zigong-table
        implementation: {measure: share, of: state = 'open', among: amount > 10}
        mustBeBetween: [0.1, 0.9]
        severity: warn
        description: most loans are open
      - name: recent
        type: custom
        engine: zigong-table
        implementation: {measure: age_days, of: month}
        mustBeLessOrEqualTo: 40
        severity: warn
        description: a month comes every month
      - name: samples_are_members
        type: custom
        engine: zigong-table
        implementation: {measure: unmatched, column: sample_id, to: dataset_members.sample_id}
        mustBe: 0
        description: a sample is one of a dataset
      - name: one_answer
        type: custom
        engine: spark-dataset
        implementation: {holds: count(DISTINCT completion) = 1, per: loan_id}
        description: a loan has one answer
"""
LINK = "relationships: [{to: dataset_members.sample_id}]"
KEY = "        primaryKey: true\n        primaryKeyPosition: 1\n"


def changed(*replacements: tuple[str, str]) -> str:
    text = TEXT
    for old, new in replacements:
        assert old in text, old
        text = text.replace(old, new, 1)
    return text
