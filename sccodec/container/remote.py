"""An .scc file behind HTTP: only the bytes that are needed cross the network.

Header and directory say where every payload lies, so one layer of one region is a few range
requests. A request that fails is not repeated.
"""

from __future__ import annotations

import errno
import re
from typing import TYPE_CHECKING, NoReturn

from sccodec.container.reader import Reader
from sccodec.errors import BadRequest, LimitExceeded

if TYPE_CHECKING:
    from http.client import HTTPResponse

SCHEMES = ("http://", "https://")
REQUEST_COST = 1 << 14  # bytes that take about as long as one more request
WHOLE_LIMIT = 1 << 26  # bytes taken at once from a server that cannot send parts
TIMEOUT = 30.0  # seconds without any answer

CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)")
LENGTH = re.compile(r"\d{1,19}")  # Python would rather not read numbers without end
ERRORS = {401: errno.EACCES, 403: errno.EACCES, 404: errno.ENOENT, 410: errno.ENOENT}


def is_url(name: object) -> bool:
    """True for what `open_url` opens."""
    return isinstance(name, str) and name.lower().startswith(SCHEMES)


def refuse_secret(url: str) -> None:
    """Raises BadRequest for an address with a user or a password, which messages would show."""
    if is_url(url) and "@" in re.split("[/?#]", url.partition("://")[2])[0]:
        raise BadRequest("an address with a user or a password in it is not supported")


def open_url(
    url: str, *, timeout: float = TIMEOUT, whole_limit: int = WHOLE_LIMIT, **options
) -> Reader:
    """Reader of a file behind an http or https address; options are those of Reader.

    A server that cannot send parts is asked for the whole file, of at most `whole_limit` bytes,
    and `notes` say so. `timeout` is how many seconds the server may be silent.

    Raises OSError for what the network or the server does wrong, FileNotFoundError for 404,
    LimitExceeded, and what Reader raises. Reading on raises OSError if the file has changed.
    """
    if not is_url(url):
        raise BadRequest(f"{url} is not an http or https address")
    refuse_secret(url)
    source = _Source(url, timeout, whole_limit)
    return Reader(
        source.read_at,
        source.size,
        name=url,
        request_cost=source.request_cost,
        notes=source.notes,
        **options,
    )


class _Source:
    """read_at for one address, and what the first answer has told about it."""

    def __init__(self, url: str, timeout: float, whole_limit: int):
        self.url = url
        self.timeout = timeout
        self.notes: tuple[str, ...] = ()
        self.request_cost = REQUEST_COST
        self.size: int | None = None
        self._opener = _opener()
        self._address = url  # where redirects have led to
        self._version: dict[str, str] = {}  # headers that a new version of the file changes
        with self._ask(0, REQUEST_COST) as answer:
            self._address = answer.url
            self._version = {
                name: answer.headers[name]
                for name in ("ETag", "Last-Modified")
                if answer.headers[name]
            }
            if answer.status == 206:
                self._start = self._part(answer, 0, REQUEST_COST)
            else:
                self._start = self._whole(answer, whole_limit)

    def read_at(self, offset: int, length: int) -> bytes:
        """The bytes there, in one request at most; fewer only at the end of the file."""
        start = self._start[offset : offset + length]
        offset, length = offset + len(start), length - len(start)
        if length == 0 or (self.size is not None and offset >= self.size):
            return start
        with self._ask(offset, length) as answer:
            if answer.status == 206:
                return start + self._part(answer, offset, length)
            if answer.status == 416 and self.size is None:
                return start
            self._changed()

    # -- one request -----------------------------------------------------------------------

    def _ask(self, offset: int, length: int) -> HTTPResponse:
        """An answer of status 200, 206 or 416."""
        from urllib.parse import quote
        from urllib.request import Request

        headers = {"Range": f"bytes={offset}-{offset + length - 1}", "User-Agent": "sccodec"}
        etag = self._version.get("ETag", "W/")
        if not etag.startswith("W/"):
            headers["If-Range"] = etag  # another version is then sent whole, with status 200
        with _Failures(self):
            request = Request(quote(self._address, safe="%/:=&?~#+!$,;'@()*[]"), headers=headers)
            answer = self._opener.open(request, timeout=self.timeout)
        if answer.status in (200, 206, 416):
            return answer
        answer.close()
        words = "not found" if answer.status == 404 else f"{answer.status} {answer.reason}".strip()
        self._fail(words, ERRORS.get(answer.status, errno.EIO))

    def _part(self, answer: HTTPResponse, offset: int, length: int) -> bytes:
        """The body of a 206, if it is the part that was asked for."""
        place = CONTENT_RANGE.fullmatch(answer.headers["Content-Range"] or "")
        if not place or int(place[1]) != offset or not 0 <= int(place[2]) - offset < length:
            self._fail("the server sent other bytes than those asked for")
        end, total = int(place[2]) + 1, None if place[3] == "*" else int(place[3])
        if (total is not None and self.size not in (None, total)) or any(
            answer.headers[name] not in (None, value) for name, value in self._version.items()
        ):
            self._changed()
        if end != offset + length and total is not None and end != total:
            self._fail("the server sent fewer bytes than asked for")
        if offset == 0:
            self.size = end if total is None and end < length else total
        return self._body(answer, end - offset)

    def _whole(self, answer: HTTPResponse, limit: int) -> bytes:
        """The body of a 200, or the nothing of a 416; from then on no more requests are made."""
        if answer.status == 416:  # the file is empty
            self.size = 0
            return b""
        told = answer.headers["Content-Length"]
        told = int(told) if LENGTH.fullmatch(told or "") else None
        raw = b"" if told is not None and told > limit else self._body(answer, told, limit + 1)
        if max(told or 0, len(raw)) > limit:
            raise LimitExceeded(
                f"{self.url}: the server does not send parts of files, "
                f"and the whole file is longer than the limit of {limit} bytes",
                hint="download the file first",
            )
        self.size = len(raw)
        self.request_cost = max(1, len(raw))  # so that the first read is of everything
        self.notes = ("the server does not send parts of files, so all of it was fetched",)
        return raw

    def _body(self, answer: HTTPResponse, length: int | None, limit: int = 0) -> bytes:
        """The body, `length` bytes long or, where that is not known, at most `limit`."""
        if answer.headers["Content-Encoding"] not in (None, "identity"):
            self._fail("the server compresses the file on its way, so its bytes cannot be counted")
        with _Failures(self):
            raw = answer.read(limit if length is None else length)
        if length is not None and len(raw) != length:
            self._fail(f"the connection ended after {len(raw)} of {length} bytes")
        return raw

    # -- failures --------------------------------------------------------------------------

    def _fail(self, words: str, number: int = errno.EIO) -> NoReturn:
        raise OSError(number, words, self.url)

    def _changed(self) -> NoReturn:
        self._fail("the file on the server changed while it was read", errno.ESTALE)


class _Failures:
    """Turns every failure of a connection into an OSError that names the address."""

    def __init__(self, source: _Source):
        self.source = source

    def __enter__(self):
        return self

    def __exit__(self, _kind, error, _traceback) -> None:
        from http.client import HTTPException

        cause = getattr(error, "reason", error)  # URLError wraps what happened
        if isinstance(cause, TimeoutError):
            words = f"no answer within {self.source.timeout:g} seconds"
            raise OSError(errno.ETIMEDOUT, words, self.source.url) from error
        if isinstance(error, OSError | HTTPException | ValueError):
            words = _words(cause)
            number = getattr(cause, "errno", None) or errno.EIO
            if number in (errno.EPIPE, errno.ESHUTDOWN):  # BrokenPipeError is said of our output
                number = errno.ECONNRESET
            raise OSError(number, words, self.source.url) from error


def _words(cause: BaseException) -> str:
    """What went wrong with a connection, in one line and without what the server chose to say."""
    from http.client import BadStatusLine, IncompleteRead, RemoteDisconnected

    if isinstance(cause, IncompleteRead):
        return f"the connection ended after {len(cause.partial)} bytes"
    if isinstance(cause, BadStatusLine) and not isinstance(cause, RemoteDisconnected):
        return "the answer is not HTTP"
    words = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
    return words.partition("\n")[0].rstrip(".").lower()


def _opener():
    """Opens http and https, with redirects to those only; an error page is an answer too."""
    from urllib import request

    class ErrorPages(request.HTTPDefaultErrorHandler):
        def http_error_default(self, _request, answer, *_):
            return answer

    opener = request.OpenerDirector()
    for handler in (
        request.ProxyHandler,
        request.HTTPHandler,
        request.HTTPSHandler,
        request.HTTPRedirectHandler,
        request.HTTPErrorProcessor,
        request.UnknownHandler,
        ErrorPages,
    ):
        opener.add_handler(handler())
    return opener
