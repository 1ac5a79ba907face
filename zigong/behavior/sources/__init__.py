"""From raw files to events and profiles: read by a source mapping, checked, masked, with keyed digests for ids."""
