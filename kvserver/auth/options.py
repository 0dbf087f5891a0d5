"""`--auth-token`: which kind of tokens (spec/auth.md §7)."""

from __future__ import annotations

from collections.abc import Callable

from kvserver.auth.tokens import NoTokens, SimpleTokens, Tokens
from kvserver.errors import FatalError

JWT_TTL_SECONDS_DEFAULT = 300.0
JWT_OPTIONS = ("sign-method", "priv-key", "pub-key", "ttl")
INVALID = "auth: invalid auth options"


def make_tokens(
    flag: str,
    *,
    simple_ttl_seconds: float,
    parse_duration: Callable[[str], float],
    read_file: Callable[[str], bytes],
    monotonic: Callable[[], float],
    wall: Callable[[], float],
    warn: Callable[[str], None],
) -> Tokens:
    """The provider that the flag asks for. Raises `FatalError` for what it cannot mean."""
    kind, _, rest = flag.partition(",")
    if kind == "simple":
        warn("simple token is not cryptographically signed")
        return SimpleTokens(simple_ttl_seconds, monotonic)
    if kind == "":
        return NoTokens()
    if kind != "jwt":
        raise FatalError(f"{INVALID}: unknown token type {kind!r}")
    options = _options(rest)
    for name in options.keys() - set(JWT_OPTIONS):
        warn(f"unknown JWT option {name!r} is ignored")
    return _jwt(options, parse_duration, read_file, wall)


def _options(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in text.split(",") if text else ():
        name, equals, value = part.partition("=")
        if not equals or name in found:
            raise FatalError(f"{INVALID}: {part!r}")
        found[name] = value
    return found


def _jwt(
    options: dict[str, str],
    parse_duration: Callable[[str], float],
    read_file: Callable[[str], bytes],
    wall: Callable[[], float],
) -> Tokens:
    from kvserver.auth import jwt_tokens  # only who asks for it pays for the import

    method = options.get("sign-method", "")
    if method not in jwt_tokens.METHODS:
        raise FatalError(f"{INVALID}: sign-method {method!r}")
    ttl_seconds = JWT_TTL_SECONDS_DEFAULT
    if "ttl" in options:
        try:
            ttl_seconds = parse_duration(options["ttl"])
        except ValueError as error:
            raise FatalError(f"{INVALID}: ttl: {error}") from None
    contents = {}
    for name in ("priv-key", "pub-key"):
        path = options.get(name, "")
        try:
            contents[name] = read_file(path) if path else b""
        except OSError as error:
            raise FatalError(f"auth: {name} {path!r}: {error.strerror or error}") from None
    sign_key, verify_key = jwt_tokens.load_keys(method, contents["priv-key"], contents["pub-key"])
    return jwt_tokens.JwtTokens(method, sign_key, verify_key, ttl_seconds, wall)
