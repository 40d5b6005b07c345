"""TLS of a worker: a context for its listening sockets, whose certificate is replaced when its files are."""

import ssl
from pathlib import Path
from typing import Final

import structlog

from olladist.errors import GatewayError

# A client that has not finished by then never will; and one that does not say good-bye is not waited for.
HANDSHAKE_SECONDS: Final = 10.0
SHUTDOWN_SECONDS: Final = 2.0

log = structlog.get_logger()


class Certificate:
    """`context` is for the sockets and stays the same; each handshake gets the newest pair that could be read."""

    def __init__(self, cert: str, key: str) -> None:
        """Raises GatewayError where the pair cannot be used."""
        self._cert, self._key = Path(cert), Path(key)
        self._stamp = self._files()
        self.context = self._newest = server_context(cert, key)
        self.context.sni_callback = self._choose

    def refresh(self) -> bool:
        """Takes over a pair that was written since; a broken one is logged once, and the old one goes on. Reads files."""
        stamp = self._files()
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        try:
            self._newest = server_context(str(self._cert), str(self._key))
        except GatewayError as problem:
            log.warning("new certificate is not used, the old one is", problem=problem.message, hint=problem.hint)
            return False
        log.warning("new certificate is used from now on", file=str(self._cert))
        return True

    def _choose(self, connection: ssl.SSLSocket | ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        """OpenSSL calls this in every handshake, also where the client names no server."""
        if connection.context is not self._newest:
            connection.context = self._newest

    def _files(self) -> tuple[object, ...]:
        return tuple(_stamp(file) for file in (self._cert, self._key))


def _stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def server_context(cert: str, key: str) -> ssl.SSLContext:
    """TLS 1.2 and 1.3 for HTTP/1.1, with OpenSSL's choice of ciphers. Raises GatewayError that names the file at fault."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    for file in (cert, key):
        try:
            with Path(file).open("rb") as opened:
                opened.read(1)
        except OSError as problem:
            raise GatewayError(
                f"the gateway's TLS file {file} cannot be read: {problem.strerror or problem}",
                hint="tls_cert and tls_key in [gateway] name PEM files that the gateway's user can read",
            ) from problem
    try:
        context.load_cert_chain(cert, key, password=_no_password)
    except ssl.SSLError as problem:
        raise GatewayError(
            f"the gateway's certificate {cert} and key {key} cannot be used: {_why(problem)}",
            hint="tls_cert holds the certificate and what leads to its root, tls_key its private key without a password, both PEM",
        ) from problem
    except _Locked as problem:
        raise GatewayError(
            f"the gateway's TLS key {key} is locked with a password",
            hint=f"nobody is there to be asked for it: `openssl pkey -in {key} -out unlocked.pem`, readable by the gateway's user alone",
        ) from problem
    return context


class _Locked(Exception):
    pass


def _no_password() -> str:
    """Without this, OpenSSL would ask on the terminal."""
    raise _Locked


def _why(problem: ssl.SSLError) -> str:
    reason = str(problem.reason or "")
    if "MISMATCH" in reason:
        return "the key is not that of the certificate"
    return reason.replace("_", " ").lower() or "no PEM was found in them"
