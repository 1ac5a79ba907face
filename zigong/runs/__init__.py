"""One run: its record, what a step may use, the entry of every job, the local runner, dates, replay of quarantine."""
