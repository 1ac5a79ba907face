"""From raw files to behavior_events, observation points, labels and user sequences."""
