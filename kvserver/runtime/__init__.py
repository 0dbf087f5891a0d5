"""The loop and its two helper threads: where pure duties meet clock, disk and network."""
