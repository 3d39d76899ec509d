import subprocess
import sys
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

SERVER = Path(__file__).with_name("sse_server.py")


@pytest.fixture(scope="session")
def sse_server():
    """The URL of a server whose models each misbehave in their own way."""
    with served() as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="session")
def tls_server(tmp_path_factory):
    """As `sse_server`, with a certificate that nobody knows; the URL and the file that holds it."""
    pem = tmp_path_factory.mktemp("tls") / "server.pem"
    pem.write_bytes(self_signed("localhost"))
    with served(str(pem)) as port:
        yield f"https://localhost:{port}", pem


@contextmanager
def served(*arguments: str):
    process = subprocess.Popen(
        [sys.executable, str(SERVER), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    port = process.stdout.readline().strip()
    assert port.isdecimal(), "the server of the tests did not start"
    yield port
    assert process.stdin is not None
    process.stdin.close()
    process.wait(timeout=10)
    process.stdout.close()


def self_signed(name: str) -> bytes:
    """Make a key and a certificate of its own for a name."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(who, who, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    return private + certificate.public_bytes(serialization.Encoding.PEM)
