"""The benchmark's own parts: a generator that miscounts would compare nothing."""
