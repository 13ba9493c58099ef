"""Streams of tokens to clients, at a few microseconds a token.

Every event of an answer is encoded, and cut to a chunk of HTTP/1.1, before its first token: later ones cost a join and
a write to the socket. Events go around the HTTP library's own writer, which would take several times as long. A slow
client holds nothing up; what it has not read is kept, at most one whole answer.
"""

import asyncio

from pointsman_policy.simulator.server.formats import Reply


class EventStream:
    """Tells one client of an answer's tokens; a driver's `Deliver`.

    Args:
        transport: The client's connection, its response headers already written.
        reply: The answer.
        chunked: Whether the response has chunked transfer encoding.
        ended: Set when the last token has been written.
    """

    __slots__ = ("_chunked", "_ended", "_events", "_reply", "_sent", "_transport")

    def __init__(
        self, transport: asyncio.WriteTransport, reply: Reply, *, chunked: bool, ended: asyncio.Future[None]
    ) -> None:
        self._transport = transport
        self._reply = reply
        self._chunked = chunked
        self._ended = ended
        self._events = [self._framed(event) for event in reply.words()]
        self._sent = 0

    def __call__(self, tokens: int) -> None:
        """Write the events of all tokens up to this one at once."""
        sent, self._sent = self._sent, tokens
        events, last = self._events, self._reply.output_tokens
        pieces = [events[index % len(events)] for index in range(sent, min(tokens, last - 1))]
        if sent == 0:
            pieces.insert(0, self._framed(self._reply.opening()))
        if tokens == last:
            pieces.append(self._framed(self._reply.closing()))
        if not self._transport.is_closing():
            self._transport.write(b"".join(pieces))
        if tokens == last and not self._ended.done():
            self._ended.set_result(None)

    def _framed(self, event: bytes) -> bytes:
        if not self._chunked or not event:  # an empty chunk would be the end of the response
            return event
        return b"%x\r\n%b\r\n" % (len(event), event)
