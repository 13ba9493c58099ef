"""One ext_proc stream as a state machine: messages in, messages out, no input or output of its own."""

from collections.abc import Iterable
from typing import Protocol

from pointsman.envoy.v3 import external_processor_pb2 as pb

Responses = Iterable[pb.ProcessingResponse]


class MalformedStreamError(Exception):
    """The gateway broke the protocol; the message says how."""


class Conversation(Protocol):
    """One stream, from its first message on."""

    @property
    def finished(self) -> bool:
        """Whether the router has said all that it will say, so that the stream can be closed."""

    @property
    def complete(self) -> bool:
        """Whether all is said, and nothing rests on the gateway having got the last of it."""

    def receive(self, message: pb.ProcessingRequest) -> Responses:
        """Return the answers to a message, possibly none.

        Raises:
            MalformedStreamError: If the message cannot come here.
        """

    def closed(self, *, delivered: bool) -> None:
        """Take the end of the stream; `delivered`: nothing went wrong and every answer was sent."""
