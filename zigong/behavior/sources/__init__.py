"""One source into events and profiles: raw files read by a mapping, masked, checked, with keyed digests for ids."""
