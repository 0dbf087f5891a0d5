"""As whom a connection comes to its cluster."""

from __future__ import annotations

from cryptography import x509
from cryptography.x509.oid import NameOID

from console.models import Cluster


def own_name(cluster: Cluster) -> str:
    """The etcd user of a connection, or the name in its client certificate; "" for nobody."""
    if cluster.asks_sign_in:
        return cluster.user_name
    return cluster.etcd_user or certificate_name(cluster)


def certificate_name(cluster: Cluster) -> str:
    """The common name a server with --client-cert-auth takes for the user (spec/auth.md §6)."""
    if not cluster.tls_certificate:
        return ""
    try:
        subject = x509.load_pem_x509_certificate(cluster.tls_certificate.encode()).subject
    except ValueError:
        return ""
    names = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""
