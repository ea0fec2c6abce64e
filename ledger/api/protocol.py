"""Owns how bytes become requests: as uvicorn reads them, but that an offer to go over to another protocol is passed over.

Java's own client offers HTTP/2 beside its first request (`Upgrade: h2c`), body and all. The parser takes what follows such a head
for the other protocol's, so that the body would be lost, and an export of spans would be answered as one that had none. Who does
not take up an offer answers as if it had not been made (RFC 9110, 7.8).
"""

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_OFFER = b"upgrade"


class Protocol(HttpToolsProtocol):
    """A connection that speaks HTTP/1.1, whatever else it is offered."""

    parser: HttpRequestParser

    def data_received(self, data: bytes) -> None:
        """What has come. A head that makes an offer is read again without it, and before its body."""
        self._unset_keepalive_if_required()
        left = memoryview(data)
        try:
            while left:
                left = self._after_offer(left)
        except (HttpParserError, HttpParserUpgrade):
            self.send_400_response("Invalid HTTP request received.")

    def on_headers_complete(self) -> None:
        """Begins to answer, unless the head is to be read again."""
        if not self._is_offered():
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The body has come to its end, unless it was not read yet."""
        if not self._is_offered():
            super().on_message_complete()

    def _after_offer(self, data: memoryview) -> memoryview:
        try:
            self.parser.feed_data(data)
        except HttpParserUpgrade as offer:
            if self._is_offered():
                self.parser.feed_data(self._plain_head())
                return data[offer.args[0] :]
        return data[:0]

    def _is_offered(self) -> bool:
        return self.parser.should_upgrade() and any(name == _OFFER for name, _ in self.headers)

    def _plain_head(self) -> bytes:
        lines = [self.parser.get_method() + b" " + self.url + b" HTTP/1.1"]
        lines += [name + b": " + value for name, value in self.headers if name != _OFFER]
        return b"\r\n".join(lines) + b"\r\n\r\n"
