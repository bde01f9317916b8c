"""An authority and a certificate of its own for localhost, made with the openssl program."""

import shutil
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

_SETTINGS = """
[req]
distinguished_name = name
prompt = no
[name]
CN = {name}
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = DNS:localhost
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificates:
    """Contexts for both sides.

    Attributes:
        authority: file of its certificate.
        server: proves that it is localhost.
        trust: believes the authority alone.
    """

    authority: Path
    server: ssl.SSLContext
    trust: ssl.SSLContext


def make_certificates(folder: Path) -> Certificates:
    """Valid for two days."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make certificates with")
    for name in ("authority", "server"):
        (folder / f"{name}.cnf").write_text(_SETTINGS.format(name=f"test {name}"))
    key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
    _openssl(folder, f"req -x509 {key} -config authority.cnf -extensions authority -days 2 -keyout a.key -out a.pem")
    _openssl(folder, f"req {key} -config server.cnf -keyout s.key -out s.csr")
    signing = "-CA a.pem -CAkey a.key -CAcreateserial -days 2 -extfile server.cnf -extensions server"
    _openssl(folder, f"x509 -req -in s.csr {signing} -out s.pem")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "s.pem", folder / "s.key")
    trust = ssl.create_default_context(cafile=str(folder / "a.pem"))
    return Certificates(authority=folder / "a.pem", server=server, trust=trust)


def _openssl(folder: Path, words: str) -> None:
    subprocess.run(["openssl", *words.split()], cwd=folder, check=True, capture_output=True, timeout=240)
