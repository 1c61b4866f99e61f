"""A real OpenSearch behind nginx: limits, passwords, certificates and names, which change while all run.

Nothing is lost, doubled or given up for that; records are told apart by numbers of their own.
"""

from __future__ import annotations

import math
import os
import re
import secrets
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.admin import ADMIN, ask
from tests.support.certificates import openssl
from tests.support.fleet import hold, report
from tests.support.frames import make_frame
from tests.support.handing_over import SPOOL, forward_table
from tests.support.namespaces import NEW_MOUNTS, apart, needs_root
from tests.support.nginx import Nginx
from tests.support.steady import (
    assert_all_there_once,
    held,
    more_is_shipped,
    shipped,
    steadily,
    told_now,
)
from tests.support.waiting import within

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.collectors import Collector
    from tests.support.opensearch import OpenSearch

    MakeCollector = Callable[..., Collector]
    Property = Callable[[str, object], None]

pytestmark = pytest.mark.slow

SECONDS = 30
# The long form: COLLECTOR_OUTAGE_SECONDS=60.
OUTAGE_SECONDS = float(os.environ.get("COLLECTOR_OUTAGE_SECONDS", "10"))
VALID_SECONDS = 5
NOBODY = 1
"""A port."""


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def server(port: int, upstream: int, more: str = "", address: str = "127.0.0.1") -> str:
    """Return a server of nginx that passes requests on to a port of this machine."""
    return (
        f"server {{ listen {address}:{port}{' ssl' if 'ssl_' in more else ''}; {more}\n"
        f"location / {{ proxy_pass http://127.0.0.1:{upstream}; }} }}\n"
    )


def configuration(url: str, index: str, more: str = "", **keys: Any) -> str:
    return SPOOL + more + forward_table(url, index=index + "-%Y.%m.%d", **keys)


# --- limits, and an engine that is not there ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "count", "large"), [("1m", 600, 0), ("100k", 200, 1)], ids=["1 MB", "below one record"]
)
def test_413_loses_nothing_and_one_record_alone_is_reduced_to_text(  # noqa: PLR0913, PLR0917 - fixtures
    opensearch: OpenSearch,
    make_collector: MakeCollector,
    tmp_path: Path,
    port: int,
    record_property: Property,
    limit: str,
    count: int,
    large: int,
) -> None:
    """nginx counts compressed bytes: these are hardly made fewer by that."""
    index = f"limit-{limit}"
    sizes = [30_000] * count
    sizes[100 : 100 + large] = [400_000] * large
    # More than what may wait for the spool comes at once: a sixteenth of this.
    roomy = "[listen]\nmax_buffered_bytes = 1_073_741_824\n"
    with Nginx(tmp_path, server(port, opensearch.port, f"client_max_body_size {limit};")) as front:
        collector = make_collector(configuration(f"http://127.0.0.1:{port}", index, roomy)).start()
        begun = time.monotonic()
        frames = [
            make_frame(f"record {number:07} {secrets.token_hex(size // 2)}")
            for number, size in enumerate(sizes)
        ]
        collector.send(b"".join(frames))
        assert_all_there_once(collector, lambda: opensearch.messages(f"{index}-*"))
        refused, taken = front.answered(413), front.answered(200)
    cut = [text for text in opensearch.messages(f"{index}-*") if text.endswith(" bytes]")]
    assert len(cut) == large
    assert 0 < refused < taken
    report(record_property, refused=refused, taken=taken, seconds=time.monotonic() - begun)


def test_502_for_a_while_costs_nothing(
    opensearch: OpenSearch,
    make_collector: MakeCollector,
    tmp_path: Path,
    port: int,
    record_property: Property,
) -> None:
    with Nginx(tmp_path, server(port, opensearch.port)) as front:
        collector = make_collector(configuration(f"http://127.0.0.1:{port}", "gateway")).start()
        with steadily(collector, 200):
            more_is_shipped(collector)
            front.reload(server(port, NOBODY))
            within(SECONDS, lambda: front.answered(502) > 2, "it answers 502")
            assert told_now(collector)["held"] is None
            front.reload(server(port, opensearch.port))
            more_is_shipped(collector)
        now = assert_all_there_once(collector, lambda: opensearch.messages("gateway-*"))
        assert now.in_doubt > 0  # the engine may have had it
        report(record_property, answers_502=front.answered(502), in_doubt=now.in_doubt)


def test_a_balancer_that_shakes_hands_and_hangs_up_makes_no_dead_letter(  # noqa: PLR0913, PLR0917 - fixtures
    opensearch: OpenSearch,
    make_collector: MakeCollector,
    tmp_path: Path,
    port: int,
    certificates: Path,
    record_property: Property,
) -> None:
    """It is TLS that it ends, and there is no server behind it."""

    def balancer(upstream: int) -> str:
        files = f"ssl_certificate {certificates}/server.pem; ssl_certificate_key {certificates}/server.key;"
        listen = f"listen 127.0.0.1:{port} ssl; {files}"
        return f"stream {{ server {{ {listen} proxy_pass 127.0.0.1:{upstream}; }} }}\n"

    url, ca = f"https://127.0.0.1:{port}", str(certificates / "ca.pem")
    with Nginx(tmp_path, balancer(opensearch.port)) as front:
        collector = make_collector(configuration(url, "balanced", ca=ca, reconnect_seconds=1)).start()
        with steadily(collector, 200) as client:
            more_is_shipped(collector)
            front.reload(balancer(NOBODY))
            within(SECONDS, lambda: "elk: " in collector.stderr, "it is hung up on")
            before = client.sent
            hold(OUTAGE_SECONDS, lambda: told_now(collector)["dead"] == {}, "no dead letter")
            waited, reason = told_now(collector)["waiting"], held(collector)
            sent_meanwhile = client.sent - before
            front.reload(balancer(opensearch.port))
            more_is_shipped(collector)
        now = assert_all_there_once(collector, lambda: opensearch.messages("balanced-*"))
        assert waited > sent_meanwhile / 2
        report(record_property, waited=waited, held=reason, retried=now.retried)


# --- credentials and certificates ---------------------------------------------------------------------------


@pytest.mark.parametrize(("late", "reason"), [("here", "secret"), ("there", "http_401")])
def test_credentials_that_come_late_cost_nothing(  # noqa: PLR0913, PLR0917 - fixtures
    opensearch: OpenSearch,
    make_collector: MakeCollector,
    tmp_path: Path,
    port: int,
    late: str,
    reason: str,
) -> None:
    users, password = tmp_path / "users", tmp_path / "password"
    right = f"collector:{openssl(tmp_path, 'passwd', '-apr1', 'right').strip()}\n"
    users.write_text("" if late == "there" else right)
    if late != "here":
        password.write_text("right\n")
    keys: dict[str, Any] = {"user": "collector", "password_file": str(password), "reconnect_seconds": 1}
    asks = 'auth_basic "engine"; auth_basic_user_file HOME/users;'
    with Nginx(tmp_path, server(port, opensearch.port, asks)):
        collector = make_collector(configuration(f"http://127.0.0.1:{port}", late, **keys)).start()
        with steadily(collector, 100):
            within(SECONDS, lambda: held(collector) == reason, reason)
            hold(1, lambda: held(collector) == reason, "it holds")
            assert (told_now(collector)["dead"], shipped(collector)) == ({}, 0)
            users.write_text(right)
            password.write_text("right\n")
            within(SECONDS, lambda: told_now(collector)["held"] is None, "it goes on by itself")
        assert_all_there_once(collector, lambda: opensearch.messages(f"{late}-*"))
    why = "HTTP 401" if reason == "http_401" else "password_file = "
    assert re.search(rf"ERROR elk: holds since .*{why}", collector.stderr)


def sign(certificates: Path, name: str, seconds: float) -> None:
    """Have the CA sign *name* anew, so that its certificate ends in so many seconds."""
    end = time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() + seconds))
    (certificates / "index").write_text("")
    (certificates / "ca.conf").write_text(
        f"[ca]\ndefault_ca=own\n[own]\ndatabase={certificates}/index\nserial={certificates}/ca.srl\n"
        f"new_certs_dir={certificates}\ndefault_md=sha256\npolicy=any\nunique_subject=no\n"
        "[any]\ncommonName=supplied\n"
    )
    how = ("ca", "-config", "ca.conf", "-batch", "-notext", "-cert", "ca.pem", "-keyfile", "ca.key")
    valid = ("-startdate", "20250101000000Z", "-enddate", end)
    # Written beside and moved: what is read meanwhile is whole.
    openssl(certificates, *how, *valid, "-in", f"{name}.csr", "-out", "new.pem", "-extfile", "names")
    (certificates / "new.pem").rename(certificates / f"{name}.pem")


@pytest.mark.parametrize("whose", ["server", "client"])
def test_a_certificate_that_expires_holds_until_it_is_replaced(  # noqa: PLR0913, PLR0917 - fixtures
    opensearch: OpenSearch,
    make_collector: MakeCollector,
    tmp_path: Path,
    port: int,
    certificates: Path,
    record_property: Property,
    whose: str,
) -> None:
    sign(certificates, "server", 86_400)
    sign(certificates, "client", 86_400)
    files = f"ssl_certificate {certificates}/server.pem; ssl_certificate_key {certificates}/server.key;"
    asks = f"ssl_client_certificate {certificates}/ca.pem; ssl_verify_client on;"
    config = server(port, opensearch.port, files + asks)
    keys: dict[str, Any] = {
        "ca": str(certificates / "ca.pem"),
        "certificate": str(certificates / "client.pem"),
        "private_key": str(certificates / "client.key"),
        "reconnect_seconds": 1,
    }
    index = f"certificate-{whose}"

    def days() -> float:
        metric = r'collector_forward_certificate_days\{forward="elk"\} (\S+)'
        found = re.search(metric, ask(collector, "/metrics")[2])
        return float(found[1]) if found else math.inf

    def replace(seconds: float) -> None:
        sign(certificates, whose, seconds)
        if whose == "server":
            front.reload(config)

    with Nginx(tmp_path, config) as front:
        collector = make_collector(configuration(f"https://127.0.0.1:{port}", index, ADMIN, **keys)).start()
        with steadily(collector, 50):
            more_is_shipped(collector)
            within(SECONDS, lambda: 0.9 < days() < 1, "it tells how long it is valid")
            replace(VALID_SECONDS)
            ends = time.monotonic() + VALID_SECONDS
            within(SECONDS, lambda: days() < VALID_SECONDS / 86_400, "it tells that of the new one")
            within(SECONDS, lambda: held(collector), "it holds")
            took = time.monotonic() - ends
            hold(1, lambda: held(collector), "it goes on holding")
            reason, stored = held(collector), shipped(collector)
            assert told_now(collector)["dead"] == {}
            replace(86_400)
            within(SECONDS, lambda: shipped(collector) > stored, "it goes on by itself")
            within(SECONDS, lambda: days() > 0.9, "it tells the new one's days")
        assert_all_there_once(collector, lambda: opensearch.messages(f"{index}-*"))
    assert "ERROR elk: holds since" in collector.stderr
    report(record_property, reason=reason, seconds_behind_its_end=took)


# --- names --------------------------------------------------------------------------------------------------


@needs_root
@pytest.mark.parametrize("old", ["answers on", "is gone"])
def test_the_next_connection_goes_to_the_new_address_of_a_name(
    opensearch: OpenSearch, make_collector: MakeCollector, tmp_path: Path, port: int, old: str
) -> None:
    """By the system's own resolver: /etc/hosts is another file for this collector."""
    first, second = "127.0.0.2", "127.0.0.3"
    own_logs = [(address, f"access_log HOME/{address}.log;") for address in (first, second)]
    servers = [server(port, opensearch.port, log, address) for address, log in own_logs]
    hosts = tmp_path / "hosts"
    hosts.write_text(f"{first} elk.test\n")
    index = f"name-{old.replace(' ', '-')}"
    seconds = 1 if old == "answers on" else 300
    config = configuration(f"http://elk.test:{port}", index, reconnect_seconds=seconds)
    mount = apart(NEW_MOUNTS, "mount --make-rprivate /", f"mount --bind {hosts} /etc/hosts")
    with Nginx(tmp_path, "".join(servers)) as front:
        collector = make_collector(config).start(preexec_fn=mount)
        with steadily(collector, 100):
            more_is_shipped(collector)
            assert front.answered(200, f"{second}.log") == 0
            if old == "is gone":
                front.reload(servers[1])
                within(SECONDS, lambda: "Connection refused" in collector.stderr, "nobody is there")
            hosts.write_text(f"{second} elk.test\n")
            within(SECONDS, lambda: front.answered(200, f"{second}.log"), "it is asked at the new address")
            before = front.answered(200, f"{first}.log")
            more_is_shipped(collector)
            assert front.answered(200, f"{first}.log") == before
        assert_all_there_once(collector, lambda: opensearch.messages(f"{index}-*"))
