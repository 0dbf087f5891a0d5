"""Users, roles, permissions and tokens (spec/auth.md): who may do what.

Pure: no clock, no disk, no network of its own. The store changes only through the log, so every
member decides alike; rights are derived from it and rebuilt when its revision moves. What a
request demands is said by one recursive function (`demands`), and judged in one place (`checker`).
"""

from kvserver.auth.checker import Checker
from kvserver.auth.identity import NOBODY, Identity
from kvserver.auth.options import make_tokens
from kvserver.auth.rules import RULES, Rule
from kvserver.auth.store import AuthStore
from kvserver.auth.tokens import NoTokens, TokenAhead, Tokens

__all__ = [
    "NOBODY",
    "RULES",
    "AuthStore",
    "Checker",
    "Identity",
    "NoTokens",
    "Rule",
    "TokenAhead",
    "Tokens",
    "make_tokens",
]
