"""Reading back what an authority signed, field by field."""

from __future__ import annotations

from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from certs.ca import CertificateAuthority, IssuedCertificate
from certs.certificates import certificates_from_pem
from certs.spiffe import SpiffeId

__all__ = ["assert_fixed_profile"]

_KINDS = {
    ExtensionOID.BASIC_CONSTRAINTS: True,
    ExtensionOID.KEY_USAGE: True,
    ExtensionOID.EXTENDED_KEY_USAGE: False,
    ExtensionOID.SUBJECT_ALTERNATIVE_NAME: True,
    ExtensionOID.SUBJECT_KEY_IDENTIFIER: False,
    ExtensionOID.AUTHORITY_KEY_IDENTIFIER: False,
}


def assert_fixed_profile(
    issued: IssuedCertificate,
    authority: CertificateAuthority,
    key: ec.EllipticCurvePublicKey,
    attested: SpiffeId,
    now: datetime,
    ttl_s: int = 3600,
) -> None:
    """`issued` is an X509-SVID of `attested` for `key`, and carries nothing else at all."""
    leaf, intermediate = certificates_from_pem(issued.chain_pem)
    assert intermediate == authority.intermediate
    leaf.verify_directly_issued_by(intermediate)
    assert leaf.version is x509.Version.v3
    assert leaf.subject == x509.Name([])
    assert leaf.public_key() == key
    assert leaf.serial_number == issued.serial
    assert leaf.serial_number.bit_length() >= 64
    assert {each.oid: each.critical for each in leaf.extensions} == _KINDS
    find = leaf.extensions.get_extension_for_class
    names = find(x509.SubjectAlternativeName).value
    assert list(names) == [x509.UniformResourceIdentifier(str(attested))]
    assert issued.spiffe_id == attested
    assert find(x509.BasicConstraints).value == x509.BasicConstraints(ca=False, path_length=None)
    usage = find(x509.KeyUsage).value
    allowed = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment")
    allowed += ("key_agreement", "key_cert_sign", "crl_sign")
    assert [name for name in allowed if getattr(usage, name)] == ["digital_signature"]
    purposes = set(find(x509.ExtendedKeyUsage).value)
    assert purposes == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    assert find(x509.SubjectKeyIdentifier).value == x509.SubjectKeyIdentifier.from_public_key(key)
    moment = now.replace(microsecond=0)
    assert leaf.not_valid_before_utc == issued.not_before == moment - timedelta(seconds=60)
    assert leaf.not_valid_after_utc == issued.not_after
    assert issued.not_after == min(moment + timedelta(seconds=ttl_s), intermediate.not_valid_after_utc)
