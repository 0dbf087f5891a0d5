"""The connection form: what an admin types to reach a cluster."""

from __future__ import annotations

from typing import Any, ClassVar

from django import forms
from django.utils.text import slugify

from console.clusters.secrets import encrypt
from console.gateway import check_endpoint
from console.keys.byte_text import show
from console.models import Cluster

COLOURS = ("teal", "blue", "violet", "pink", "red", "orange", "green", "grey")
RESERVED_SLUGS = {"new"}


class ClusterForm(forms.ModelForm):
    """Secret fields are written only when something is typed: a stored one never comes back."""

    colour = forms.ChoiceField(choices=[(name, name.capitalize()) for name in COLOURS])
    etcd_password = forms.CharField(required=False, strip=False, label="Password")
    tls_key = forms.CharField(required=False, label="Client key (PEM)")
    forget_secrets = forms.BooleanField(required=False)

    class Meta:
        model = Cluster
        fields: ClassVar = [
            "name",
            "environment",
            "colour",
            "endpoints",
            "is_read_only",
            "etcd_user",
            "asks_sign_in",
            "tls_ca",
            "tls_certificate",
            "tls_server_name",
        ]
        widgets: ClassVar = {
            "endpoints": forms.Textarea(attrs={"rows": 3, "spellcheck": "false"}),
            "tls_ca": forms.Textarea(attrs={"rows": 3, "spellcheck": "false"}),
            "tls_certificate": forms.Textarea(attrs={"rows": 3, "spellcheck": "false"}),
            "name": forms.TextInput(attrs={"autocomplete": "off"}),
            "etcd_user": forms.TextInput(attrs={"autocomplete": "off"}),
        }

    def clean_endpoints(self) -> str:
        checked = []
        for text in self.cleaned_data["endpoints"].replace(",", " ").split():
            try:
                checked.append(check_endpoint(text))
            except ValueError as error:
                raise forms.ValidationError(str(error)) from None
        if len({text.startswith("https://") for text in checked}) > 1:
            raise forms.ValidationError("Either all endpoints are https:// or none is.")
        return "\n".join(dict.fromkeys(checked))

    def clean_name(self) -> str:
        """It is typed to confirm what is dangerous: what is seen has to be what it is."""
        name: str = self.cleaned_data["name"]
        if show(name.encode()) != name.replace("\\", "\\\\"):
            raise forms.ValidationError("A part of this name cannot be seen: write it without.")
        return name

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if bool(data.get("tls_certificate")) != self._has_key(data):
            self.add_error("tls_certificate", "A client certificate and its key go together.")
        return data

    def _has_key(self, data: dict[str, Any]) -> bool:
        stored = self.instance.tls_key_encrypted and not data.get("forget_secrets")
        return bool(data.get("tls_key") or stored)

    def save(self, commit: bool = True) -> Cluster:
        cluster = self.described()
        if not cluster.slug:
            cluster.slug = free_slug(cluster.name)
        cluster.save()
        return cluster

    def described(self) -> Cluster:
        """The connection as typed, not stored."""
        cluster = super().save(commit=False)
        if self.cleaned_data["forget_secrets"]:
            cluster.etcd_password_encrypted = cluster.tls_key_encrypted = ""
        if self.cleaned_data["etcd_password"]:
            cluster.etcd_password_encrypted = encrypt(self.cleaned_data["etcd_password"])
        if self.cleaned_data["tls_key"]:
            cluster.tls_key_encrypted = encrypt(self.cleaned_data["tls_key"])
        return cluster


def free_slug(name: str) -> str:
    """A URL name nobody has: the name's own, or with a number behind it."""
    stem = slugify(name)[:40] or "cluster"
    slug, number = stem, 2
    while slug in RESERVED_SLUGS or Cluster.objects.filter(slug=slug).exists():
        slug, number = f"{stem}-{number}", number + 1
    return slug
