"""TracSeq: gradient capture, scores and decay."""
