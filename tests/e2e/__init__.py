"""Whole members as processes: killed, broken and fed nonsense, and what must hold afterwards."""
