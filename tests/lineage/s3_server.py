"""A bucket on loopback that answers what reading takes in S3's protocol: HeadObject, GetObject, ListObjectsV2."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

_LISTED = (
    "<Contents><Key>{key}</Key><Size>{size}</Size><LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
)


@contextlib.contextmanager
def serve(bucket: Path) -> Iterator[str]:
    """Serve a folder as the bucket of its name; yield what a URI of `pyarrow.fs` needs behind its question mark."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked = urlsplit(self.path)
            name, _, key = unquote(asked.path).strip("/").partition("/")
            if name != bucket.name:
                self._answer(404, b"<Error><Code>NoSuchBucket</Code></Error>")
            elif not key:
                self._answer(200, listed(bucket, parse_qs(asked.query)) if self.command == "GET" else b"")
            elif not (bucket / key).is_file():
                self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
            else:
                self._file((bucket / key).read_bytes())

        do_HEAD = do_GET

        def _file(self, content: bytes) -> None:
            first, _, last = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
            end = min(int(last or len(content)), len(content) - 1)
            part = content[int(first) : end + 1]
            headers = {"Content-Range": f"bytes {first}-{end}/{len(content)}"} if "Range" in self.headers else {}
            self._answer(206 if headers else 200, part, headers)

        def _answer(self, code: int, content: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(code)
            for name, value in {**(headers or {}), "ETag": '"1"', "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"endpoint_override=127.0.0.1:{server.server_port}&scheme=http&region=us-east-1"
    finally:
        server.shutdown()
        server.server_close()


def listed(bucket: Path, asked: dict[str, list[str]]) -> bytes:
    """Return the answer to ListObjectsV2."""
    prefix, delimiter = asked.get("prefix", [""])[0], asked.get("delimiter", [""])[0]
    keys = sorted(path.relative_to(bucket).as_posix() for path in bucket.rglob("*") if path.is_file())
    found, folders = [], set()
    for key in keys:
        if not key.startswith(prefix):
            continue
        head, cut, _ = key[len(prefix) :].partition(delimiter) if delimiter else (key, "", "")
        if cut:
            folders.add(prefix + head + delimiter)
        else:
            found.append(_LISTED.format(key=escape(key), size=(bucket / key).stat().st_size))
    common = "".join(f"<CommonPrefixes><Prefix>{escape(each)}</Prefix></CommonPrefixes>" for each in sorted(folders))
    count = len(found) + len(folders)
    return (
        f"<ListBucketResult><Name>{bucket.name}</Name><Prefix>{escape(prefix)}</Prefix><KeyCount>{count}</KeyCount>"
        f"<MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated>{''.join(found)}{common}</ListBucketResult>"
    ).encode()
