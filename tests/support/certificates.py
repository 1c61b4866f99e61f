"""Certificates for TLS, made by openssl."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


def openssl(directory: Path, *arguments: str) -> str:
    return subprocess.run(
        ["openssl", *arguments], cwd=directory, check=True, capture_output=True, text=True
    ).stdout


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with a CA and certificates of a server and a client that it signed."""
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    directory = tmp_path_factory.mktemp("certificates")
    new = ("req", "-newkey", "rsa:2048", "-nodes", "-subj")
    usage = (
        "-addext",
        "keyUsage=digitalSignature,keyCertSign",
    )  # Python 3.13 insists on it, and on the key's id
    openssl(directory, *new, "/CN=ca", "-x509", *usage, "-days", "2", "-keyout", "ca.key", "-out", "ca.pem")
    for name in ("server", "client"):
        (directory / "names").write_text(
            "subjectAltName=DNS:localhost,IP:127.0.0.1\nauthorityKeyIdentifier=keyid\n"
        )
        openssl(directory, *new, f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        sign = ("x509", "-req", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2")
        openssl(directory, *sign, "-in", f"{name}.csr", "-out", f"{name}.pem", "-extfile", "names")
        openssl(directory, "verify", "-x509_strict", "-CAfile", "ca.pem", f"{name}.pem")
    return directory


def tls_table(certificates: Path, client_ca: str = "") -> str:
    return (
        "[listen.tls]\n"
        f'certificate = "{certificates}/server.pem"\nprivate_key = "{certificates}/server.key"\n'
        f'client_ca = "{client_ca}"\n'
    )
