"""The response to one question, as its bytes come. Pure: bytes in, what was answered out.

For what httpx is not for: uploads that listen while they send, and questions that are asked again and again.
"""

import httptools

from olladist.gateway.control.upstreams import Answered, Failed

# Heads of Ollama have 150 bytes. What is longer is no Ollama's.
HEAD_BYTES_MAX = 64 * 2**10


class ResponseReader:
    """Reads one response with a body of at most `bytes_max`; interim ones before it are passed over (RFC 9110 §15.2).

    `keep`: once it is whole, whether its connection may be used again.
    """

    def __init__(self, bytes_max: int) -> None:
        self.keep = False
        self._parser = httptools.HttpResponseParser(self)
        self._bytes_max = bytes_max
        self._fields: dict[bytes, bytes] = {}
        self._body = bytearray()
        self._bytes = 0  # that came before the head was whole
        self._status = 0
        self._whole = False

    def feed(self, data: bytes) -> Answered | None:
        """The answer once it is whole. Raises Failed."""
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            raise Failed(f"does not speak HTTP as it should ({error})") from error
        if not self._status:
            self._bytes += len(data)
            if self._bytes > HEAD_BYTES_MAX:
                raise Failed(f"does not speak HTTP as it should (its head has over {HEAD_BYTES_MAX} bytes)")
        if len(self._body) > self._bytes_max:
            raise Failed(f"answered more than {self._bytes_max} bytes")
        return self._answered() if self._whole else None

    def ended(self) -> Answered:
        """The answer, if the end of the connection is its end too. Raises Failed."""
        framed = not self._fields.keys().isdisjoint({b"content-length", b"transfer-encoding"})
        if self._status and (self._whole or not framed):
            return self._answered()
        raise Failed(f"closed the connection {'before its answer was whole' if self.heard else 'without an answer'}")

    @property
    def heard(self) -> bool:
        """Whether anything has come at all."""
        return bool(self._status or self._bytes)

    def _answered(self) -> Answered:
        if not 200 <= self._status <= 599:
            raise Failed(f"answered with the status {self._status}")
        said = {name: self._fields.get(name, b"").decode("latin-1") for name in (b"content-type", b"date")}
        return Answered(self._status, said[b"content-type"], bytes(self._body), said[b"date"])

    # httptools.

    def on_message_begin(self) -> None:
        if self._whole:
            self.keep = False  # it goes on after the end

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._whole:
            self._fields[name.lower()] = value

    def on_headers_complete(self) -> None:
        if self._whole:
            return
        status = self._parser.get_status_code()
        if 100 <= status < 200:
            self._fields.clear()
            return
        self._status = status
        self.keep = self._parser.should_keep_alive()

    def on_body(self, body: bytes) -> None:
        if not self._whole:
            self._body += body

    def on_message_complete(self) -> None:
        if self._status:
            self._whole = True
