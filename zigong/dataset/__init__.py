"""The samples of one dataset: members, repeated texts, where samples are read from, and the audit of the whole."""
