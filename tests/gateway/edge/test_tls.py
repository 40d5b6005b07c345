import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from olladist.errors import GatewayError
from olladist.gateway.edge.tls import Certificate, server_context
from tests.gateway.certificates import make_pair
from tests.gateway.edge.harness import (
    LAST_CHUNK,
    NDJSON_HEAD,
    Connection,
    Gateway,
    chunk,
    gateway,
    post,
    says_who,
    until,
)


@pytest.fixture
async def secure(run_dir: Path) -> AsyncIterator[Gateway]:
    """A worker behind TLS with one backend and a control process."""
    cert, key = make_pair(run_dir)
    async with gateway(run_dir, tls_cert=str(cert), tls_key=str(key)) as running:
        yield running


def trusting(gate: Gateway) -> ssl.SSLContext:
    """A client's context that knows the certificate as the files have it now."""
    return ssl.create_default_context(cafile=gate.settings.tls_cert)


def web(gate: Gateway) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=f"https://127.0.0.1:{gate.port}", verify=trusting(gate))


async def shown(gate: Gateway) -> str:
    """The name in the certificate that a new connection is shown."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", gate.port, ssl=context)
    raw = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    name = x509.load_der_x509_certificate(raw).subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    return str(name)


async def test_everything_works_behind_tls(secure: Gateway) -> None:
    """An answer, a stream line by line, and an upload to the control process, on one connection."""

    async def streams(connection: Connection, head: bytes, body: bytes) -> None:
        await connection.send(NDJSON_HEAD, *[chunk(b'{"n":%d}\n' % n) for n in range(50)], LAST_CHUNK)

    await secure.add("gpu1", streams)
    await secure.serve_api(says_who)
    await secure.joined()
    upload = bytes(range(256)) * 8192

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(upload), 100_000):
            yield upload[start : start + 100_000]

    async with web(secure) as client:
        async with client.stream("POST", "/api/generate", json={"model": "tiny", "prompt": "hi"}) as answer:
            lines = [line async for line in answer.aiter_lines()]
        sent = await client.post("/api/blobs/sha256:x", content=upload)
        chunked = await client.post("/api/blobs/sha256:x", content=pieces())

    assert lines == [f'{{"n":{n}}}' for n in range(50)]
    assert sent.content == chunked.content == upload
    assert secure.settings.address.startswith("https://")


async def test_a_client_that_asks_first_is_told_to_go_on(secure: Gateway) -> None:
    """Expect: 100-continue; and one that is refused reads why, though TLS knows no half-closed connection."""
    await secure.serve_api(says_who)
    reader, writer = await asyncio.open_connection("127.0.0.1", secure.port, ssl=trusting(secure))
    writer.write(b"POST /api/show HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"{}")
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    assert await reader.readexactly(2) == b"{}"

    writer.write(post(extra=b"Content-Length: 5\r\n"))
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
    writer.close()


async def test_a_client_that_leaves_is_noticed_behind_tls(secure: Gateway) -> None:
    """Its backend is free at once."""

    async def starts(connection: Connection, head: bytes, body: bytes) -> None:
        await connection.send(NDJSON_HEAD, chunk(b"{}\n"))
        await connection.ended()

    node = await secure.add("gpu1", starts)
    await secure.joined()
    request = {"model": "tiny", "prompt": "hi"}
    async with web(secure) as client, client.stream("POST", "/api/generate", json=request) as answer:
        assert answer.status_code == 200
    await until(lambda: node.closed == 1, "the backend sees it")


async def test_a_new_certificate_is_shown_from_then_on(secure: Gateway) -> None:
    """Connections that are open stay as they are; new ones are shown the new one; a broken one changes nothing."""
    folder = Path(secure.settings.tls_cert).parent
    await secure.serve_api(says_who)
    async with web(secure) as client:
        assert (await client.get("/")).status_code == 200
        assert await shown(secure) == "localhost"

        make_pair(folder, name="renewed")
        secure.edge.sweep(0.0)
        assert await shown(secure) == "renewed"

        (folder / "key.pem").write_text("nothing")
        secure.edge.sweep(0.0)
        assert await shown(secure) == "renewed"

        make_pair(folder, name="mended")
        secure.edge.sweep(0.0)
        assert await shown(secure) == "mended"
        assert (await client.get("/")).status_code == 200


async def test_old_versions_of_tls_are_refused(secure: Gateway) -> None:
    """1.2 at least; what is no TLS at all gets no answer."""
    context = trusting(secure)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    _, writer = await asyncio.open_connection("127.0.0.1", secure.port, ssl=context)
    assert writer.get_extra_info("ssl_object").version() == "TLSv1.2"
    writer.close()

    plain = await secure.client()
    plain.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"HTTP/1.1" not in await plain.rest()
    assert server_context(secure.settings.tls_cert, secure.settings.tls_key).minimum_version is ssl.TLSVersion.TLSv1_2


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    """With what is wrong and what to do: not there, no PEM, of two pairs, locked."""
    cert, key = make_pair(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    other_cert, other_key = make_pair(other)
    nothing = tmp_path / "nothing.pem"
    nothing.write_text("nothing")

    def problem(cert: Path, key: Path) -> GatewayError:
        with pytest.raises(GatewayError) as raised:
            Certificate(str(cert), str(key))
        assert raised.value.hint
        return raised.value

    assert problem(tmp_path / "gone", key).message == (
        f"the gateway's TLS file {tmp_path / 'gone'} cannot be read: No such file or directory"
    )
    assert "the key is not that of the certificate" in problem(other_cert, key).message
    assert "cannot be used" in problem(nothing, key).message
    assert "cannot be used" in problem(cert, nothing).message
    make_pair(other, password=b"secret")
    assert f"{other_key} is locked with a password" in problem(other_cert, other_key).message
    assert Certificate(str(cert), str(key)).refresh() is False
