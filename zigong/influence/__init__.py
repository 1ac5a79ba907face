"""TracSeq: gradient capture, score and decay."""
