"""HTTP answers that are bounded in time and in size, for clients built on requests.

The timeout of requests bounds each read from the socket; a server that drips a byte now and then holds the caller for
ever, and one that never stops fills the memory.
"""

import io
import time
from collections.abc import Callable
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError, ReadTimeoutError


class AnswerTooLarge(requests.RequestException):
    """The answer exceeds the adapter's size limit."""


class BoundedAdapter(HTTPAdapter):
    """Reads each answer as a whole before returning it, up to a size and a deadline. Never retries.

    Args:
        maximum_bytes: Largest decompressed answer.
        clock: A monotonic clock, seconds.
    """

    def __init__(self, maximum_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(max_retries=0)
        self._maximum_bytes = maximum_bytes
        self._clock = clock
        self.deadline = float("inf")
        """On the clock: every answer must be complete by then."""

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a request and read its answer.

        Raises:
            requests.Timeout: At the deadline.
            AnswerTooLarge: Above the size limit.
            requests.RequestException: As requests does.
        """
        kwargs |= {"stream": True, "timeout": self._remaining(request)}
        response = super().send(request, *args, **kwargs)
        try:
            response.raw = io.BytesIO(self._read(response, request))
        except ReadTimeoutError as error:
            raise requests.Timeout("deadline passed", request=request) from error
        except HTTPError as error:
            raise requests.ConnectionError(str(error), request=request) from error
        return response

    def _remaining(self, request: requests.PreparedRequest) -> float:
        remaining = self.deadline - self._clock()
        if remaining <= 0:
            raise requests.Timeout("deadline passed", request=request)
        return remaining

    def _read(self, response: requests.Response, request: requests.PreparedRequest) -> bytes:
        body = bytearray()
        try:
            while chunk := response.raw.read1(1 << 16, decode_content=True):
                body += chunk
                self._remaining(request)
                if len(body) > self._maximum_bytes:
                    raise AnswerTooLarge(f"answer above {self._maximum_bytes} bytes", request=request)
        except BaseException:
            response.raw.close()
            raise
        response.raw.release_conn()
        return bytes(body)
