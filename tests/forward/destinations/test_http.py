"""HTTP: who we are, where we connect, how long we wait, and what a failure says of the destination."""

from __future__ import annotations

import base64
import socket
import ssl
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from collector.forward.destinations import http as module
from collector.forward.destinations.http import HttpClient
from collector.forward.verdicts import BrokenError, HoldError
from tests.support.bulk_server import BulkServer, Reply
from tests.support.certificates import openssl
from tests.support.forwarding import settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def server() -> Iterator[BulkServer]:
    with BulkServer() as one:
        yield one


@pytest.fixture
def client() -> Iterator[Callable[..., HttpClient]]:
    made: list[HttpClient] = []

    def make(url: str = "", **keys: Any) -> HttpClient:
        made.append(HttpClient(settings(url, **keys)))
        return made[-1]

    yield make
    for one in made:
        one.close()


def hold(act: Callable[[], object]) -> HoldError:
    with pytest.raises(HoldError) as caught:
        act()
    assert caught.value.remedy
    return caught.value


# --- requests ---


def test_requests_share_a_connection(server: BulkServer, client: Callable[..., HttpClient]) -> None:
    one = client(server.url)
    assert [200, 404, 200] == [one.request("GET", path).status for path in ("/", "/x", "/")]
    assert server.connections == 1


@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_a_body_arrives_as_it_was(
    server: BulkServer, client: Callable[..., HttpClient], compression: str
) -> None:
    client(server.url, compression=compression).request("POST", "/x", b"body\n" * 1000, "text/plain")
    asked = server.asked[0]
    assert asked.body == b"body\n" * 1000
    assert asked.headers.get("Content-Encoding", "none") == compression
    assert asked.headers["Content-Type"] == "text/plain"


def test_the_path_of_the_address_comes_first(server: BulkServer, client: Callable[..., HttpClient]) -> None:
    client(f"{server.url}/es/").request("GET", "/x?a=b")
    assert server.asked[0].path == "/es/x?a=b"


def test_each_connection_takes_the_next_address(client: Callable[..., HttpClient]) -> None:
    with BulkServer() as first, BulkServer() as second:
        one = client(urls=(first.url, second.url))
        for _ in range(3):
            one.connect()
            one.request("GET", "/")
        assert [2, 1] == [len(first.asked), len(second.asked)]


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("soon", None),
        ("-1", None),
    ],
)
def test_retry_after_is_told_in_seconds(
    server: BulkServer, client: Callable[..., HttpClient], header: str, seconds: float | None
) -> None:
    server.instead["x"].append(Reply(503, b"", (("Retry-After", header),)))
    assert client(server.url).request("GET", "/x").retry_after == seconds


def test_a_redirect_is_not_followed(server: BulkServer, client: Callable[..., HttpClient]) -> None:
    server.instead["x"].append(Reply(302, b"", (("Location", "/y"),)))
    answer = client(server.url).request("GET", "/x")
    assert [302, "/y"] == [answer.status, answer.location]
    assert len(server.asked) == 1


@pytest.mark.parametrize("closing", ["announced", "unannounced"])
def test_a_connection_that_the_peer_has_closed_in_between_is_made_anew_and_nothing_is_in_doubt(
    server: BulkServer, client: Callable[..., HttpClient], closing: str
) -> None:
    one = client(server.url)
    if closing == "announced":
        server.instead["x"].append(Reply(200, b"last", (("Connection", "close"),)))
        assert one.request("GET", "/x").body == b"last"
    else:
        one.request("GET", "/x")
        one._connection.sock._sock.shutdown(socket.SHUT_WR)  # type: ignore[union-attr] # noqa: SLF001 - which has it close
        wait_until_closed(one)
    assert one.request("GET", "/").status == 200


def wait_until_closed(one: HttpClient) -> None:
    assert one._timed  # noqa: SLF001
    deadline = time.monotonic() + 5
    while not one._timed.ended():  # noqa: SLF001
        assert time.monotonic() < deadline


# --- failures ---


def cut_off(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")


def hang_up(connection: socket.socket) -> None:
    connection.shutdown(socket.SHUT_RDWR)


def rubbish(connection: socket.socket) -> None:
    connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")


@pytest.mark.parametrize("fault", [cut_off, hang_up, rubbish])
def test_no_whole_answer_is_a_broken_request_and_the_next_one_connects(
    server: BulkServer, client: Callable[..., HttpClient], fault: Callable[[socket.socket], None]
) -> None:
    server.instead["x"].append(fault)
    one = client(server.url)
    with pytest.raises(BrokenError, match=rf"{server.url}: \w+: ") as caught:
        one.request("POST", "/x", b"body")
    assert not caught.value.timed_out
    assert one.request("GET", "/").status == 200


def test_an_answer_without_end_is_none(
    server: BulkServer, client: Callable[..., HttpClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_ANSWER_BYTES", 1000)
    server.instead["x"] += [Reply(200, b"y" * 1000), Reply(200, b"y" * 1001)]
    one = client(server.url)
    assert len(one.request("GET", "/x").body) == 1000
    with pytest.raises(BrokenError, match="more than 1000 bytes"):
        one.request("GET", "/x")


def test_timeout_seconds_is_for_the_whole_request_however_its_answer_drips(
    server: BulkServer, client: Callable[..., HttpClient]
) -> None:
    over = threading.Event()

    def drip(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while not over.wait(0.02):
            connection.sendall(b".")

    server.instead["x"].append(drip)
    began = time.monotonic()
    with pytest.raises(BrokenError) as caught:
        client(server.url, timeout_seconds=0.2).request("GET", "/x")
    over.set()
    assert caught.value.timed_out
    assert 0.2 <= time.monotonic() - began < 2


def test_a_server_that_reads_nothing_times_out_too(client: Callable[..., HttpClient]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = client(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout_seconds=0.2, compression="none")
        with pytest.raises(BrokenError) as caught:
            one.request("POST", "/x", bytes(50_000_000), "text/plain")
    assert caught.value.timed_out


def test_nobody_there_is_an_os_error_that_says_where(client: Callable[..., HttpClient]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ConnectionRefusedError, match=f"^http://127.0.0.1:{port}: .*refused"):
        client(f"http://127.0.0.1:{port}").connect()
    with pytest.raises(socket.gaierror, match=r"^http://no\.such\.name\.invalid: "):
        client("http://no.such.name.invalid").connect()


# --- who we are ---


@pytest.mark.parametrize(
    ("key", "text", "header"),
    [
        ("password_file", "pass word\u00fc\n", f"Basic {base64.b64encode('u:pass wordü'.encode()).decode()}"),
        ("api_key_file", "id:key\n", f"ApiKey {base64.b64encode(b'id:key').decode()}"),
        ("api_key_file", "aWQ6a2V5", "ApiKey aWQ6a2V5"),
        ("token_file", " token\n", "Bearer token"),
    ],
    ids=["Basic", "ApiKey", "ApiKey encoded", "Bearer"],
)
def test_secrets_are_read_from_their_files(tmp_path: Path, key: str, text: str, header: str) -> None:
    (tmp_path / "secret").write_text(text)
    user = {"user": "u"} if key == "password_file" else {}
    with BulkServer() as server:
        one = HttpClient(settings(server.url, **{key: str(tmp_path / "secret")}, **user))
        one.request("GET", "/")
        one.close()
    assert server.asked[0].headers["Authorization"] == header


def test_without_a_secret_there_is_no_header(server: BulkServer, client: Callable[..., HttpClient]) -> None:
    client(server.url).request("GET", "/")
    assert "Authorization" not in server.asked[0].headers


@pytest.mark.parametrize("content", [None, b"", b"\xff", b"two\nlines"])
def test_a_missing_or_odd_secret_holds_until_it_comes(
    server: BulkServer, client: Callable[..., HttpClient], tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    one = client(server.url, token_file=str(path))
    found = hold(one.connect)
    assert found.reason == "secret"
    assert f"token_file = {path}: " in str(found)
    path.write_text("t")
    one.connect()
    assert one.request("GET", "/").status == 200


# --- TLS ---


def test_tls_by_a_ca_of_ones_own_tells_the_days_that_are_left(
    certificates: Path, client: Callable[..., HttpClient]
) -> None:
    with BulkServer(certificates) as server:
        one = client(server.url, ca=str(certificates / "ca.pem"))
        assert one.certificate_days is None
        one.connect()
        assert one.request("GET", "/").status == 200
        assert server.connections == 1
        assert one.certificate_days
        assert 1.9 < one.certificate_days <= 2.0


@pytest.mark.parametrize("fault", ["unknown CA", "no TLS there", "no CA file", "no certificate of ours"])
def test_what_is_wrong_with_tls_holds(
    certificates: Path, client: Callable[..., HttpClient], tmp_path: Path, fault: str
) -> None:
    wants_ours = fault == "no certificate of ours"
    with BulkServer(None if fault == "no TLS there" else certificates, client_ca=wants_ours) as server:
        ca = {"unknown CA": "", "no CA file": str(tmp_path / "none")}.get(fault, str(certificates / "ca.pem"))
        one = client(server.url.replace("http:", "https:"), ca=ca)
        assert hold(lambda: one.request("POST", "/", b"x")).reason == "tls"


def test_a_balancer_that_shakes_hands_and_hangs_up_holds_nothing(
    certificates: Path, client: Callable[..., HttpClient]
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates / "server.pem", certificates / "server.key")

    def serve(listener: socket.socket) -> None:
        with listener.accept()[0] as accepted, context.wrap_socket(accepted, server_side=True) as talking:
            talking.shutdown(socket.SHUT_RDWR)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        one = client(
            f"https://127.0.0.1:{listener.getsockname()[1]}",
            ca=str(certificates / "ca.pem"),
            timeout_seconds=0.2,
        )
        one.connect()
        thread.join()
        with pytest.raises((BrokenError, OSError)):
            one.request("POST", "/", b"x")


def test_our_certificate_is_shown_and_its_end_counts_if_it_is_nearer(
    certificates: Path, client: Callable[..., HttpClient], tmp_path: Path
) -> None:
    request, signed = certificates / "client.csr", tmp_path / "client.pem"
    by = ("-CA", str(certificates / "ca.pem"), "-CAkey", str(certificates / "ca.key"), "-CAcreateserial")
    openssl(tmp_path, "x509", "-req", "-in", str(request), *by, "-days", "1", "-out", str(signed))
    signed.write_text(f"Some words before it\n{signed.read_text()}{(certificates / 'ca.pem').read_text()}")
    keys = {"certificate": str(signed), "private_key": str(certificates / "client.key")}
    with BulkServer(certificates, client_ca=True) as server:
        one = client(server.url, ca=str(certificates / "ca.pem"), **keys)
        assert one.request("GET", "/").status == 200
        assert one.certificate_days
        assert 0.9 < one.certificate_days <= 1.0


@pytest.mark.parametrize("days", [1, 12_000, 40_000], ids=["UTCTime", "2058", "GeneralizedTime"])
def test_the_end_of_a_certificate_is_what_openssl_reads(tmp_path: Path, days: int) -> None:
    from collector.forward.destinations.tls import _not_after

    new = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x", "-keyout", "k")
    openssl(tmp_path, *new, "-days", str(days), "-outform", "DER", "-out", "c.der")
    said = openssl(tmp_path, "x509", "-inform", "DER", "-in", "c.der", "-noout", "-enddate")
    expected = ssl.cert_time_to_seconds(said.strip().partition("=")[2])
    assert _not_after((tmp_path / "c.der").read_bytes()) == expected


def test_an_encrypted_key_holds_and_asks_nobody(
    certificates: Path, client: Callable[..., HttpClient], tmp_path: Path
) -> None:
    key = tmp_path / "client.key"
    openssl(
        tmp_path,
        "rsa",
        "-aes128",
        "-passout",
        "pass:x",
        "-in",
        str(certificates / "client.key"),
        "-out",
        str(key),
    )
    one = client("https://127.0.0.1:1", certificate=str(certificates / "client.pem"), private_key=str(key))
    assert "the key is encrypted" in str(hold(one.connect))


def test_a_certificate_that_was_replaced_counts_from_the_next_connection_on(
    certificates: Path, client: Callable[..., HttpClient], tmp_path: Path
) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text((certificates / "client.pem").read_text())
    with BulkServer(certificates) as server:
        one = client(server.url, ca=str(ca))
        hold(one.connect)
        ca.write_text((certificates / "ca.pem").read_text())
        assert one.request("GET", "/").status == 200


# --- proxies ---


class Proxy:
    """A proxy that tunnels to any port of this machine, or refuses."""

    def __init__(self, refuse: int = 0) -> None:
        self.refuse = refuse
        self.heads: list[str] = []

    @contextmanager
    def running(self) -> Iterator[str]:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            threading.Thread(target=self._serve, args=(listener,), daemon=True).start()
            yield f"127.0.0.1:{listener.getsockname()[1]}"

    def _serve(self, listener: socket.socket) -> None:
        near = listener.accept()[0]
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += near.recv(1)
        self.heads.append(head.decode())
        if self.refuse:
            near.sendall(b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % self.refuse)
            near.close()
            return
        target = head.decode().split()[1].removeprefix("http://").partition("/")[0]
        far = socket.create_connection(("127.0.0.1", int(target.rpartition(":")[2])))
        if head.startswith(b"CONNECT"):
            near.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        else:
            far.sendall(head)
        threading.Thread(target=self._pass_on, args=(far, near), daemon=True).start()
        self._pass_on(near, far)

    @staticmethod
    def _pass_on(one: socket.socket, other: socket.socket) -> None:
        try:
            while data := one.recv(65536):
                other.sendall(data)
        except OSError:
            pass
        finally:
            for each in (one, other):
                each.close()


@pytest.fixture(autouse=True)
def no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize("given", ["proxy", "https_proxy", "https_proxy without scheme"])
def test_https_goes_through_the_tunnel_of_a_proxy(
    certificates: Path, client: Callable[..., HttpClient], monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    proxy = Proxy()
    with BulkServer(certificates) as server, proxy.running() as address:
        keys = {"proxy": f"http://{address}"} if given == "proxy" else {}
        if given != "proxy":
            scheme = "http://us%40er:pw@" if given == "https_proxy" else ""
            monkeypatch.setenv("https_proxy", scheme + address)
        one = client(server.url, ca=str(certificates / "ca.pem"), **keys)
        assert one.request("GET", "/").status == 200
        assert one.certificate_days
        one.close()
        assert proxy.heads[0].startswith(f"CONNECT 127.0.0.1:{server.port} HTTP/1.")
        credentials = f"Proxy-Authorization: Basic {base64.b64encode(b'us@er:pw').decode()}"
        assert (credentials in proxy.heads[0]) == (given == "https_proxy")
        assert "Proxy-Authorization" not in server.asked[0].headers


def test_plain_http_asks_the_proxy_for_the_whole_address(
    server: BulkServer, client: Callable[..., HttpClient]
) -> None:
    proxy = Proxy()
    with proxy.running() as address:
        one = client(f"{server.url}/es", proxy=f"http://{address}")
        assert one.request("GET", "/").status == 404
        one.close()
    assert proxy.heads[0].startswith(f"GET {server.url}/es/ HTTP/1.1\r\n")


def test_no_proxy_leaves_the_proxy_out(
    server: BulkServer, client: Callable[..., HttpClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert client(server.url).request("GET", "/").status == 200


@pytest.mark.parametrize("status", [403, 407])
def test_a_proxy_that_refuses_holds(
    certificates: Path, client: Callable[..., HttpClient], status: int
) -> None:
    with BulkServer(certificates) as server, Proxy(status).running() as address:
        one = client(server.url, proxy=f"http://{address}", ca=str(certificates / "ca.pem"))
        assert hold(one.connect).reason == "proxy"


def test_a_proxy_that_cannot_reach_it_holds_nothing(
    certificates: Path, client: Callable[..., HttpClient]
) -> None:
    with BulkServer(certificates) as server, Proxy(502).running() as address:
        one = client(server.url, proxy=f"http://{address}", ca=str(certificates / "ca.pem"))
        with pytest.raises(OSError, match="502"):
            one.connect()


def test_a_proxy_that_is_none_holds_and_shows_no_password(
    client: Callable[..., HttpClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "socks5://u:geheim@127.0.0.1:1")
    found = hold(client("http://127.0.0.1:9").connect)
    assert "socks5://127.0.0.1:1" in str(found)
    assert "geheim" not in str(found)
