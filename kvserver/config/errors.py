"""Two ways a configuration is refused (spec/config.md §1 rules 6-9)."""

from __future__ import annotations

from kvserver.errors import KeydeckError


class ConfigError(KeydeckError):
    """Values that do not fit: exit code 1."""


class UsageError(KeydeckError):
    """A command line that cannot be read: usage on stderr, exit code 2."""
