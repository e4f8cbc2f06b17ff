"""A server on this machine that sends one file, well or badly."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FileServer(ThreadingHTTPServer):
    """Serves `data` at /photo.scc; the other attributes say how it misbehaves."""

    daemon_threads = True

    def __init__(self, data: bytes):
        super().__init__(("127.0.0.1", 0), Answer)
        self.data = data
        self.asked: list[str] = []  # the Range of every request that reached the file
        self.sent = 0  # bytes of bodies
        self.ranges = True  # False: every answer is 200 with the whole file
        self.if_range = True  # False: If-Range is ignored
        self.etag: str | None = '"one"'
        self.length_known = True  # False: the total of Content-Range is *
        self.headers: dict[str, str] = {}  # sent too, or instead
        self.cut = 0  # bytes missing at the end of every body after the first
        self.delay = 0.0  # seconds before every answer
        self.leaving = threading.Event()  # ends the delay

    def handle_error(self, *_):
        """Clients that hang up are part of the tests."""

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def url(self) -> str:
        return f"{self.address}/photo.scc"


class Answer(BaseHTTPRequestHandler):
    server: FileServer

    def do_GET(self):
        if self.path == "/moved.scc":
            return self.plain(302, Location=self.server.url)
        if self.path == "/elsewhere.scc":
            return self.plain(302, Location="ftp://127.0.0.1/photo.scc")
        if self.path == "/loop.scc":
            return self.plain(302, Location="/loop.scc")
        if self.path.startswith("/status/"):
            return self.plain(int(self.path.rpartition("/")[2]))
        return self.file()

    def plain(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def file(self) -> None:
        server, asked = self.server, self.headers["Range"]
        server.asked.append(asked)
        server.leaving.wait(server.delay)
        condition = self.headers["If-Range"]
        fresh = not server.if_range or condition in (None, server.etag)
        total, headers = len(server.data), {"ETag": server.etag}
        status, body = 200, server.data
        if server.ranges and fresh:
            first, last = map(int, re.fullmatch(r"bytes=(\d+)-(\d+)", asked).groups())
            known = str(total) if server.length_known else "*"
            if first >= total:
                return self.plain(416, **{"Content-Range": f"bytes */{known}"})
            last = min(last, total - 1)
            status, body = 206, server.data[first : last + 1]
            headers["Content-Range"] = f"bytes {first}-{last}/{known}"
        headers["Content-Length"] = str(len(body))
        self.send_response(status)
        for name, value in (headers | server.headers).items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        body = body[: len(body) - (server.cut if len(server.asked) > 1 else 0)]
        server.sent += len(body)
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextmanager
def serving(data: bytes) -> Iterator[FileServer]:
    with FileServer(data) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.leaving.set()
            server.shutdown()
            thread.join()
