"""The loop and its two helper threads: where pure duties meet the clock, the disk and the network."""
