"""Bounded downloads: short time-outs, a deadline, and a limit on bytes before and after gunzip."""

import gzip
import http.client
import io
import time
import urllib.request
import zlib
from collections.abc import Callable

CONNECT_TIMEOUT = 5.0  # seconds
READ_TIMEOUT = 15.0  # seconds without a byte
DEADLINE = 600.0  # seconds for one file

_CHUNK_BYTES = 1 << 16
_REPORT_BYTES = 1 << 20


def download(url: str, limit: int, progress: Callable[[int], None]) -> bytes:
    """Downloads what lies at an http or https address.

    Args:
        url: the address.
        limit: the most bytes to accept.
        progress: told the number of bytes so far, about once per MiB and at the end.

    Returns:
        The bytes.

    Raises:
        ValueError: more than `limit` bytes came.
        OSError: it could not be reached, answered an error, or was too slow.
        http.client.HTTPException: the answer was not HTTP, or broke off.
    """
    opener = urllib.request.build_opener(_HTTPHandler, _HTTPSHandler)
    stop_at = time.monotonic() + DEADLINE
    content = bytearray()
    reported = 0
    with opener.open(url, timeout=CONNECT_TIMEOUT) as response:
        # read1 returns what has come; read would wait for a full chunk however slowly it drips.
        while chunk := response.read1(_CHUNK_BYTES):
            content += chunk
            if len(content) > limit:
                raise ValueError(f"{url}: size: got more than {limit} bytes, expected fewer")
            if time.monotonic() > stop_at:
                raise TimeoutError(
                    f"{url}: time: got {len(content)} bytes in {DEADLINE:g} s, expected all"
                )
            if len(content) - reported >= _REPORT_BYTES:
                reported = len(content)
                progress(reported)
    progress(len(content))
    return bytes(content)


def gunzip(content: bytes, limit: int) -> bytes:
    """Decompresses a gzip stream, never to more than `limit` bytes.

    Args:
        content: the gzip stream.
        limit: the most bytes to accept.

    Returns:
        The decompressed bytes.

    Raises:
        ValueError: the stream is corrupt or truncated, or holds more than `limit` bytes.
    """
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
            plain = stream.read(limit + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(
            f"gzip stream: got a corrupt or truncated one ({error}), expected a complete one"
        ) from error
    if len(plain) > limit:
        raise ValueError(f"gzip stream: got more than {limit} bytes, expected at most that")
    return plain


class _HTTPConnection(http.client.HTTPConnection):
    """A connection whose time-out, once it stands, is the one for reading."""

    def connect(self) -> None:
        super().connect()
        self.sock.settimeout(READ_TIMEOUT)


class _HTTPSConnection(http.client.HTTPSConnection):
    """The same over TLS."""

    def connect(self) -> None:
        super().connect()
        self.sock.settimeout(READ_TIMEOUT)


class _HTTPHandler(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_HTTPConnection, req)


class _HTTPSHandler(urllib.request.HTTPSHandler):
    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_HTTPSConnection, req)
