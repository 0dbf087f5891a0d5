"""A put somebody is writing: what the form carries from page to page. No Django in here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from console.keys.byte_text import parse
from console.keys.decoders import submitted_bytes

INT64_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Draft:
    """`base` is the mod_revision the edit began from, 0 for a key that shall be new."""

    key_text: str = ""
    value_text: str = ""
    base: int = 0
    held_lease: int = 0
    """The lease the key had when the edit began: kept unless `detaches`."""
    detaches: bool = False
    attaches: bool = False
    lease_text: str = ""
    """The lease to attach, in hex as etcdctl writes it; of an edit only if it `attaches`."""

    @classmethod
    def from_post(cls, post: Mapping[str, str], key_text: str | None = None) -> Draft:
        return cls(
            key_text=post.get("key", "") if key_text is None else key_text,
            value_text=submitted_bytes(post.get("value", "")).decode(),
            base=_number(post.get("base", "")),
            held_lease=_number(post.get("held_lease", "")),
            detaches=bool(post.get("detach")) or post.get("choice") == "detach",
            attaches=post.get("choice") == "attach",
            lease_text=post.get("lease", "").strip(),
        )

    @property
    def key(self) -> bytes:
        return parse(self.key_text)

    @property
    def value(self) -> bytes:
        return self.value_text.encode()

    @property
    def choice(self) -> str:
        return "attach" if self.attaches else "detach" if self.detaches else "keep"

    @property
    def keeps_lease(self) -> bool:
        """An edit leaves the lease as it is unless something else is chosen (trap 1)."""
        return bool(self.base) and self.choice == "keep"

    @property
    def lease(self) -> int:
        """The lease to attach: 0 for none, which is no choice where `keeps_lease`."""
        wants = self.attaches if self.base else self.lease_text
        return int(self.lease_text, 16) if wants and self.lease_text else 0

    @property
    def held_lease_hex(self) -> str:
        return f"{self.held_lease:x}"

    def errors(self) -> dict[str, str]:
        """What is wrong with it, by field."""
        found: dict[str, str] = {}
        if not self.key_text:
            found["key"] = "A key has at least one byte."
        else:
            try:
                parse(self.key_text)
            except ValueError as error:
                found["key"] = f"{str(error).capitalize()}."
        if self.attaches or (self.lease_text and not self.base):
            why = lease_error(self.lease_text)
            found |= {"lease": why} if why else {}
        return found


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and int(text) <= INT64_MAX else 0


def lease_error(text: str) -> str:
    """What is wrong with the id of a lease; nothing when it is one."""
    if _is_lease_id(text):
        return ""
    return "A lease id is a hexadecimal number, as etcdctl lease list shows it."


def _is_lease_id(text: str) -> bool:
    try:
        return 0 < int(text, 16) <= INT64_MAX
    except ValueError:
        return False
