"""A cluster of real processes, broken while it is used: the short version of `make chaos`."""
