"""One run: its record, what a step may use, the entry point of jobs, the local runner, dates, replay of quarantine."""
