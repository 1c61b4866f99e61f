"""Certificates: what is loaded, until when it is valid, and who is told."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import pytest

from collector.config.tables import Tls
from collector.listen.tls import load_tls
from tests.support.certificates import openssl, tls_table
from tests.support.commands import run
from tests.support.signals import hang_up
from tests.support.waiting import within

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.collectors import Collector

RSA = ("rsa:2048",)
EC = ("ec", "-pkeyopt", "ec_paramgen_curve:P-256")

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")


def make(
    directory: Path, name: str = "server", key: tuple[str, ...] = EC, days: int = 2, now: str = ""
) -> None:
    """Make a certificate and its key, as if it were another day."""
    at = (shutil.which("faketime") or pytest.skip("faketime is not installed"), now) if now else ()
    new = ("openssl", "req", "-x509", "-newkey", *key, "-nodes", "-subj", "/CN=localhost", "-days", f"{days}")
    subprocess.run(
        [
            *at,
            *new,
            "-addext",
            "subjectAltName=DNS:localhost",
            "-keyout",
            f"{name}.key",
            "-out",
            f"{name}.pem",
        ],
        cwd=directory,
        check=True,
        capture_output=True,
    )


def files(directory: Path, client_ca: str = "") -> Tls:
    return Tls(f"{directory}/server.pem", f"{directory}/server.key", client_ca and f"{directory}/{client_ca}")


def dates_by_openssl(directory: Path) -> tuple[datetime, datetime]:
    lines = openssl(directory, "x509", "-in", "server.pem", "-noout", "-dates").splitlines()
    begin, end = (
        datetime.fromtimestamp(ssl.cert_time_to_seconds(line.partition("=")[2]), timezone.utc)
        for line in lines
    )
    return begin, end


@pytest.mark.slow
@pytest.mark.parametrize("key", [RSA, EC], ids=["RSA", "EC"])
@pytest.mark.parametrize("days", [2, 20_000, 2_000_000], ids=["days", "past 2050", "past 7500"])
def test_the_dates_are_those_that_openssl_reads(tmp_path: Path, key: tuple[str, ...], days: int) -> None:
    make(tmp_path, key=key, days=days)
    certificate = load_tls(files(tmp_path)).chain[0]
    assert dates_by_openssl(tmp_path) == (certificate.begin, certificate.end)


def test_the_dates_of_an_old_certificate_without_a_version_are_read(tmp_path: Path) -> None:
    make(tmp_path)
    openssl(tmp_path, "req", "-new", "-key", "server.key", "-subj", "/CN=x", "-out", "server.csr")
    sign = ("x509", "-req", "-signkey", "server.key", "-days", "9")
    openssl(tmp_path, *sign, "-in", "server.csr", "-out", "server.pem")
    certificate = load_tls(files(tmp_path)).chain[0]
    assert dates_by_openssl(tmp_path) == (certificate.begin, certificate.end)


def test_the_first_certificate_of_a_file_is_the_servers_whatever_else_is_in_it(tmp_path: Path) -> None:
    make(tmp_path, days=3)
    make(tmp_path, "issuer", days=30)
    expected = dates_by_openssl(tmp_path)
    own, key, issuer = ((tmp_path / name).read_text() for name in ("server.pem", "server.key", "issuer.pem"))
    text = f"{key}\nSubject: CN=localhost\n{own}\nIssuer:\n{issuer}".replace("\n", "\r\n")
    (tmp_path / "server.pem").write_text(text)
    chain = load_tls(files(tmp_path)).chain
    assert 2 == len(chain)
    assert expected == (chain[0].begin, chain[0].end)


def test_a_certificate_with_trust_settings_of_openssl_has_dates(tmp_path: Path) -> None:
    make(tmp_path)
    openssl(
        tmp_path, "x509", "-in", "server.pem", "-trustout", "-addtrust", "serverAuth", "-out", "trusted.pem"
    )
    (tmp_path / "trusted.pem").rename(tmp_path / "server.pem")
    assert "TRUSTED" in (tmp_path / "server.pem").read_text()
    assert dates_by_openssl(tmp_path)[1] == load_tls(files(tmp_path)).chain[0].end


def test_dates_that_no_client_could_read_are_a_fault(tmp_path: Path) -> None:
    make(tmp_path)
    der = ssl.PEM_cert_to_DER_cert((tmp_path / "server.pem").read_text())
    time = dates_by_openssl(tmp_path)[1].strftime("%y%m%d%H%M%SZ").encode()
    assert time in der
    (tmp_path / "server.pem").write_text(ssl.DER_cert_to_PEM_cert(der.replace(time, b"someday, soon")))
    with pytest.raises(OSError, match=r"\[listen.tls\] .* cannot be loaded: "):
        load_tls(files(tmp_path))


def test_the_certificate_is_what_was_loaded_whatever_comes_into_its_place(tmp_path: Path) -> None:
    make(tmp_path, days=3)
    der = ssl.PEM_cert_to_DER_cert((tmp_path / "server.pem").read_text())
    loaded = load_tls(files(tmp_path))
    make(tmp_path, days=30)
    assert der == loaded.chain[0].der
    renewed = load_tls(files(tmp_path))
    assert [] == renewed.changes(renewed)
    assert [] != renewed.changes(loaded)


# --- who is told -------------------------------------------------------------------------------------------


def test_sighup_names_what_has_changed_in_the_files_and_until_when_it_is_valid(
    make_collector: Callable[..., Collector], tmp_path: Path
) -> None:
    make(tmp_path)
    make(tmp_path, "client")
    collector = make_collector(tls_table(tmp_path, f"{tmp_path}/client.pem")).start()
    hang_up(collector)
    assert "SIGHUP: changed: nothing; " in collector.stderr
    (tmp_path / "server.pem").touch()
    hang_up(collector)
    assert 2 == collector.stderr.count("SIGHUP: changed: nothing; ")
    make(tmp_path, days=400)
    hang_up(collector)
    end = f"{dates_by_openssl(tmp_path)[1]:%Y-%m-%d}"
    named = f"SIGHUP: changed: [listen.tls] certificate {tmp_path}/server.pem, valid until {end}; "
    assert named in collector.stderr
    make(tmp_path, "client")
    hang_up(collector)
    end = f"{load_tls(files(tmp_path, 'client.pem')).client_ca[0].end:%Y-%m-%d}"
    named = f"SIGHUP: changed: [listen.tls] client_ca {tmp_path}/client.pem, valid until {end}; "
    assert named in collector.stderr
    hang_up(collector)
    assert 3 == collector.stderr.count("SIGHUP: changed: nothing; ")


def test_sighup_that_turns_tls_on_names_the_certificate(
    make_collector: Callable[..., Collector], tmp_path: Path
) -> None:
    make(tmp_path)
    collector = make_collector().start()
    hang_up(collector, tls_table(tmp_path))
    assert "SIGHUP: changed: [listen] tls, [listen.tls] certificate " in collector.stderr


WRONG_DAYS = pytest.mark.parametrize(
    ("now", "days", "why"),
    [
        ("2020-01-01", 10, "expired on 2020-01-11: clients refuse it"),
        ("2099-01-01", 10, "is not valid before 2099-01-01: clients refuse it"),
    ],
    ids=["expired", "not yet valid"],
)


@WRONG_DAYS
def test_a_certificate_of_another_day_is_a_warning_of_check(
    make_collector: Callable[..., Collector], tmp_path: Path, now: str, days: int, why: str
) -> None:
    make(tmp_path, days=days, now=now)
    result = run("check", "-c", str(make_collector(tls_table(tmp_path)).config))
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"WARNING [listen.tls] certificate {tmp_path}/server.pem {why}")
    assert result.returncode == 0


@WRONG_DAYS
def test_a_certificate_of_another_day_is_a_warning_at_start_and_at_sighup(
    make_collector: Callable[..., Collector], tmp_path: Path, now: str, days: int, why: str
) -> None:
    warning = f" WARNING [listen.tls] certificate {tmp_path}/server.pem {why}"
    make(tmp_path, days=days, now=now)
    collector = make_collector(tls_table(tmp_path)).start()
    assert 1 == collector.stderr.count(warning)
    make(tmp_path)
    hang_up(collector)
    assert 1 == collector.stderr.count(warning)
    make(tmp_path, days=days, now=now)
    hang_up(collector)
    within(5, lambda: collector.stderr.count(warning) == 2)


def test_each_expired_certificate_of_client_ca_is_a_warning(
    make_collector: Callable[..., Collector], tmp_path: Path
) -> None:
    make(tmp_path)
    make(tmp_path, "new")
    make(tmp_path, "old", now="2020-01-01")
    both = "".join((tmp_path / f"{name}.pem").read_text() for name in ("new", "old"))
    (tmp_path / "clients.pem").write_text(both)
    table = tls_table(tmp_path, f"{tmp_path}/clients.pem")
    result = run("check", "-c", str(make_collector(table).config))
    (line,) = result.stderr.splitlines()
    assert f"client_ca {tmp_path}/clients.pem: certificate 2 of 2 expired on 2020-01-03: " in line
    assert result.returncode == 0


def test_an_expired_certificate_between_the_servers_and_its_authority_is_a_warning(
    make_collector: Callable[..., Collector], tmp_path: Path
) -> None:
    make(tmp_path)
    make(tmp_path, "intermediate", now="2020-01-01")
    with (tmp_path / "server.pem").open("a") as file:
        file.write((tmp_path / "intermediate.pem").read_text())
    result = run("check", "-c", str(make_collector(tls_table(tmp_path)).config))
    (line,) = result.stderr.splitlines()
    words = (
        f"WARNING [listen.tls] certificate {tmp_path}/server.pem: certificate 2 of 2 expired on 2020-01-03: "
    )
    assert line.startswith(words)
    assert result.returncode == 0


@pytest.mark.quick
def test_a_valid_certificate_is_no_word_of_check(
    make_collector: Callable[..., Collector], tmp_path: Path
) -> None:
    make(tmp_path)
    result = run("check", "-c", str(make_collector(tls_table(tmp_path)).config))
    assert (0, "") == (result.returncode, result.stderr)
