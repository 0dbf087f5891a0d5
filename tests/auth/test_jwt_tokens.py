"""JSON Web Tokens and `--auth-token` (spec/auth.md §7, §7.2; case 21)."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from kvserver import errors
from kvserver.auth import Identity, Tokens, make_tokens
from kvserver.auth.jwt_tokens import JwtTokens, VerifyOnly
from kvserver.auth.tokens import NoTokens, SimpleTokens
from kvserver.config.durations import parse_duration
from kvserver.errors import FatalError
from tests.auth.rig import Now

SECRET = b"0123456789abcdef" * 4
Make = Callable[[str], Tokens]


def pems(key: Any) -> tuple[bytes, bytes]:
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return private, public


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    made = {
        "rsa": rsa.generate_private_key(65537, 2048),
        "rsa2": rsa.generate_private_key(65537, 2048),
        "ec": ec.generate_private_key(ec.SECP256R1()),
        "ec384": ec.generate_private_key(ec.SECP384R1()),
        "ed": ed25519.Ed25519PrivateKey.generate(),
    }
    found = {"secret": SECRET}
    for name, key in made.items():
        found[name], found[name + ".pub"] = pems(key)
    return found


@pytest.fixture
def now() -> Now:
    return Now()


@pytest.fixture
def warnings() -> list[str]:
    return []


@pytest.fixture
def make(files: dict[str, bytes], now: Now, warnings: list[str]) -> Make:
    def read(path: str) -> bytes:
        if path not in files:
            raise FileNotFoundError(2, "No such file or directory", path)
        return files[path]

    def made(flag: str) -> Tokens:
        return make_tokens(
            flag,
            simple_ttl_seconds=300,
            parse_duration=parse_duration,
            read_file=read,
            monotonic=now,
            wall=now,
            warn=warnings.append,
        )

    return made


def refused(tokens: Tokens, token: str) -> bool:
    try:
        tokens.resolve(token, 99, 99)
    except errors.InvalidAuthToken:
        return True
    return False


@pytest.mark.parametrize(
    ("method", "key"),
    [
        *((f"{family}{bits}", "rsa") for family in ("RS", "PS") for bits in (256, 384, 512)),
        ("ES256", "ec"),
        ("ES384", "ec384"),
        ("EdDSA", "ed"),
        *((f"HS{bits}", "secret") for bits in (256, 384, 512)),
    ],
)
def test_a_token_names_its_user_and_revision(make: Make, method: str, key: str) -> None:
    public = "" if key == "secret" else f",pub-key={key}.pub"
    tokens = make(f"jwt,sign-method={method},priv-key={key}{public},ttl=10m")
    token = tokens.sign("alice", 7)
    assert token is not None
    # The store's revision plays no part: the token's own does (§2).
    assert tokens.resolve(token, 12, 0) == Identity("alice", 7)
    assert tokens.assign("alice", "", 3) == ""
    head, body, signature = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    assert claims == {"username": "alice", "revision": 7, "exp": 1600}
    other = body[:-2] + ("AA" if body[-2:] != "AA" else "BB")
    assert refused(tokens, f"{head}.{other}.{signature}")


def test_tokens_expire(make: Make, now: Now) -> None:
    tokens = make("jwt,sign-method=HS256,priv-key=secret,ttl=10s")
    token = tokens.sign("alice", 7)
    assert token is not None
    now.seconds += 9
    assert not refused(tokens, token)
    now.seconds += 1  # also one whose signature is remembered as good
    assert refused(tokens, token)


def test_the_lifetime_is_five_minutes_unless_said(make: Make, now: Now) -> None:
    tokens = make("jwt,sign-method=HS256,priv-key=secret")
    token = tokens.sign("alice", 7)
    assert token is not None
    now.seconds += 299
    assert not refused(tokens, token)
    now.seconds += 2
    assert refused(tokens, token)


GOOD: dict[str, Any] = {"username": "alice", "revision": 7, "exp": 2000}


@pytest.mark.parametrize(
    "claims",
    [
        {"username": "alice", "revision": 7},
        {"username": "alice", "exp": 2000},
        {"revision": 7, "exp": 2000},
        GOOD | {"username": 5},
        GOOD | {"revision": "7"},
        GOOD | {"revision": True},
        GOOD | {"revision": -1},
        GOOD | {"revision": 2**64},
        GOOD | {"exp": "2000"},
        GOOD | {"exp": float("nan")},
        GOOD | {"exp": 999},
    ],
)
def test_every_claim_must_be_there_and_good(make: Make, claims: dict[str, Any]) -> None:
    tokens = make("jwt,sign-method=HS256,priv-key=secret")
    assert not refused(tokens, jwt.encode(GOOD, SECRET, "HS256"))
    assert refused(tokens, jwt.encode(claims, SECRET, "HS256"))


def test_only_the_configured_algorithm_counts(make: Make, files: dict[str, bytes]) -> None:
    """`alg: none`, another strength, and the public key used as a secret."""
    tokens = make("jwt,sign-method=RS256,pub-key=rsa.pub,priv-key=rsa")
    private = serialization.load_pem_private_key(files["rsa"], None)
    assert not refused(tokens, jwt.encode(GOOD, private, "RS256"))  # type: ignore[arg-type]
    assert refused(tokens, jwt.encode(GOOD, private, "RS512"))  # type: ignore[arg-type]
    assert refused(tokens, jwt.encode(GOOD, None, "none"))  # type: ignore[arg-type]
    head = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').rstrip(b"=").decode()
    body = base64.urlsafe_b64encode(json.dumps(GOOD).encode()).rstrip(b"=").decode()
    secret = files["rsa.pub"]
    import hashlib
    import hmac

    digest = hmac.new(secret, f"{head}.{body}".encode(), hashlib.sha256).digest()
    forged = f"{head}.{body}." + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    assert refused(tokens, forged)
    for nonsense in ("", "a", "a.b.c", "QwErTyUiOpAsDfGh.42", "\udcff.\udcff.\udcff"):
        assert refused(tokens, nonsense)


def test_a_member_with_only_the_public_key_verifies(make: Make) -> None:
    signer = make("jwt,sign-method=RS256,pub-key=rsa.pub,priv-key=rsa")
    verifier = make("jwt,sign-method=RS256,pub-key=rsa.pub")
    token = signer.sign("alice", 7)
    assert token is not None and verifier.resolve(token, 7, 0) == Identity("alice", 7)
    with pytest.raises(VerifyOnly, match="verify-only key"):
        verifier.sign("alice", 7)
    alone = make("jwt,sign-method=RS256,priv-key=rsa")  # the public key is in the private one
    assert alone.resolve(token, 7, 0) == Identity("alice", 7)


def test_remembered_signatures_are_bounded(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvserver.auth.jwt_tokens.JWT_CHECKED_MAX", 3)
    tokens = make("jwt,sign-method=HS256,priv-key=secret")
    assert isinstance(tokens, JwtTokens)
    for number in range(10):
        token = tokens.sign(f"u{number}", 1)
        assert token is not None and tokens.resolve(token, 1, 0).username == f"u{number}"
        assert len(tokens._checked) <= 3


@pytest.mark.parametrize(
    ("flag", "text"),
    [
        ("macaroon", "auth: invalid auth options"),
        ("jwt", "auth: invalid auth options"),
        ("jwt,sign-method=XX1,priv-key=rsa", "auth: invalid auth options"),
        ("jwt,sign-method=none,priv-key=rsa", "auth: invalid auth options"),
        ("jwt,sign-method=RS256,priv-key=rsa,priv-key=rsa", "auth: invalid auth options"),
        ("jwt,sign-method=RS256,priv-key", "auth: invalid auth options"),
        ("jwt,sign-method=RS256,priv-key=rsa,ttl=soon", "auth: invalid auth options"),
        ("jwt,sign-method=RS256", "auth: missing key data"),
        ("jwt,sign-method=HS256,pub-key=rsa.pub", "auth: missing key data"),
        (
            "jwt,sign-method=RS256,priv-key=rsa,pub-key=rsa2.pub",
            "auth: public and private keys don't match",
        ),
        ("jwt,sign-method=RS256,priv-key=gone", "auth: priv-key 'gone': No such file"),
        ("jwt,sign-method=RS256,priv-key=ec", "auth: the keys do not serve RS256"),
        ("jwt,sign-method=RS256,priv-key=secret", "auth: the keys do not serve RS256"),
        ("jwt,sign-method=ES256,priv-key=ec384", "auth: the keys do not serve ES256"),
        ("jwt,sign-method=RS256,pub-key=ec.pub", "auth: the keys do not serve RS256"),
        ("jwt,sign-method=HS256,priv-key=rsa.pub", "auth: the keys do not serve HS256"),
    ],
)
def test_what_the_server_does_not_start_with(make: Make, flag: str, text: str) -> None:
    with pytest.raises(FatalError) as error:
        make(flag)
    assert str(error.value).startswith(text)


def test_kinds_of_tokens(make: Make, warnings: list[str]) -> None:
    assert isinstance(make("simple"), SimpleTokens)
    assert warnings == ["simple token is not cryptographically signed"]
    assert isinstance(make(""), NoTokens)
    assert isinstance(make("jwt,sign-method=HS256,priv-key=secret,colour=red"), JwtTokens)
    assert warnings[1:] == ["unknown JWT option 'colour' is ignored"]


def test_a_public_key_may_come_as_a_certificate(make: Make, files: dict[str, bytes]) -> None:
    from tests.support.certificates import Authority

    identity = Authority().issue("signer")
    files["cert"], files["cert.key"] = identity.certificate, identity.key
    tokens = make("jwt,sign-method=ES256,pub-key=cert,priv-key=cert.key")
    assert tokens.sign("alice", 1)
