"""Multi-version store: the key index in memory, the records in the backend (design D3, D4)."""
