"""Flags, variables and the config file of the server, as etcd has them (spec/config.md).

Order of things: `sources` reads what was given; `complete` adds defaults and derived values;
`validate` objects; `load` does all of it and prints, logs or exits. `flags` is the table that all
of them, help and the documentation come from. A `Config` never changes.

A config file alone decides. Otherwise flags, then variables, then defaults; a variable beside its
flag is fatal.
"""

from kvserver.config.complete import complete
from kvserver.config.config import Config
from kvserver.config.errors import ConfigError, UsageError
from kvserver.config.load import load

__all__ = ["Config", "ConfigError", "UsageError", "complete", "load"]
