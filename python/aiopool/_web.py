"""Gets a page as a browser does: compressed, in its own encoding, from a site that stumbles.

The standard library has the connection and the redirects. The limits and the rules are those of the
Rust scraper's `fetch.rs` and `charset.rs`.
"""

from __future__ import annotations

import codecs
import random
import re
import time
import zlib
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from http.client import HTTPException, HTTPMessage
from typing import NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import Request, urlopen

#: Bytes; without a limit a site could fill the memory.
MAX_PAGE = 16 << 20
# Parts of one gzip file, which servers send as one.
_MAX_PARTS = 100
#: Seconds; a page whose site asks for a longer pause fails, and says so.
MAX_RETRY_AFTER = 120
# Tries after the first.
_RETRIES = 3
# Seconds that a server may be silent, and that one try may take.
_SILENCE, _TOTAL = 10, 30
# Bytes of a page's beginning in which the HTML standard looks for a declaration.
_PRESCAN = 1024
# Encodings that browsers read as a larger one, by Python's names.
_LARGER = {
    "ascii": "cp1252", "iso8859-1": "cp1252", "iso8859-9": "cp1254", "iso8859-11": "cp874",
    "tis-620": "cp874", "shift_jis": "cp932", "gb2312": "gb18030", "gbk": "gb18030",
    "euc_kr": "cp949", "big5": "big5hkscs",
}  # fmt: skip
# What begins the name of an encoding of characters; Python's codecs have other things, too.
_CHARACTERS = re.compile("ascii|utf-(8|16)|cp(8|9|12)|iso(8859|2022_jp)|koi8|mac|euc|big5|gb|shift|tis")
_META = re.compile(rb"""<meta\s[^>]*?charset\s*=\s*["']?\s*([^\s"'/>;]+)""", re.IGNORECASE)
_XML = re.compile(rb"""\s*<\?xml\s[^>]*?encoding\s*=\s*["']([^"']+)""")
_COMMENT = re.compile(rb"<!--.*?(-->|$)", re.DOTALL)
_MARKS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))


class Answer(NamedTuple):
    """A page, and where it came from in the end."""

    url: str
    text: str


class _Busy(OSError):
    """What may be over in a moment, or after the seconds that the site asks for."""

    def __init__(self, text: str, after: float | None = None) -> None:
        super().__init__(text)
        self.after = after


def fetch(url: str) -> Answer:
    """Gives the page at `url`; after a failed connection, 408, 429 and 5xx it tries again, three times.

    Raises OSError if the site does not give it, ValueError if it is no page that can be read. Neither
    text has the address.
    """
    if not url.startswith(("http://", "https://")):
        # A page may name what is not on any server.
        raise ValueError("only http and https are fetched")
    # A page may name an address as it is read, with letters that HTTP does not take.
    url = quote(url, safe="!#$%&'()*+,/:;=?@[]~")
    tried = 0
    while True:
        try:
            return _try(url)
        except _Busy as busy:
            if tried == _RETRIES:
                raise OSError(f"gave up after {tried + 1} tries: {busy}") from None
            # Not all workers come back at once.
            pause = 0.1 * 2**tried * random.uniform(0.5, 1) if busy.after is None else busy.after
        time.sleep(pause)
        tried += 1


def _try(url: str) -> Answer:
    deadline = time.monotonic() + _TOTAL
    asked = {"User-Agent": "aiopool", "Accept-Encoding": "gzip, deflate"}
    try:
        with urlopen(Request(url, headers=asked), timeout=_SILENCE) as response:
            body = bytearray()
            while piece := response.read1(1 << 16):
                body += piece
                if len(body) > MAX_PAGE:
                    raise ValueError(f"the page is longer than {MAX_PAGE} bytes")
                if time.monotonic() > deadline:
                    raise TimeoutError
            # Reading in pieces does not tell an end from a connection that was cut.
            if response.length:
                raise _Busy(f"the page ended {response.length} bytes too early")
            text = decode(unpacked(bytes(body), response.headers), response.headers)
            return Answer(response.geturl(), text)
    except HTTPError as refusal:
        # Before URLError, whose kind it is.
        with refusal:
            raise _refused(refusal) from None
    except (URLError, HTTPException, OSError) as error:
        reason = getattr(error, "reason", error)
        if isinstance(error, TimeoutError) or isinstance(reason, TimeoutError):
            raise OSError("the site did not answer in time") from None
        # The first has the connection, which cannot be sent.
        raise _Busy(str(reason) or type(reason).__name__) from None


def _refused(refusal: HTTPError) -> OSError:
    text = f"the site answered {refusal.code} {refusal.reason}".rstrip()
    if refusal.code not in (408, 429) and refusal.code < 500:
        return OSError(text)
    after = _retry_after(refusal.headers.get("Retry-After", ""))
    if after is not None and after > MAX_RETRY_AFTER:
        long = f"in {after:.0f} s, which is longer than {MAX_RETRY_AFTER} s"
        return OSError(f"{text} and asks to come back {long}")
    return _Busy(text, after)


def _retry_after(said: str) -> float | None:
    """Seconds, from a number or a date; a date that is over is no pause."""
    if said.strip().isdecimal():
        return float(said)
    try:
        until = parsedate_to_datetime(said)
    except (TypeError, ValueError):
        return None
    # A date of HTTP is of that zone, whether it says so or not.
    until = until if until.tzinfo else until.replace(tzinfo=timezone.utc)
    return max(0.0, (until - datetime.now(timezone.utc)).total_seconds())


def unpacked(body: bytes, headers: HTTPMessage) -> bytes:
    """Gives `body` as it was before its `Content-Encoding`; ValueError if that is none of ours."""
    coding = headers.get("Content-Encoding", "identity").strip().lower()
    if coding in ("", "identity"):
        return body
    if coding not in ("gzip", "x-gzip", "deflate"):
        raise ValueError(f"the site answered in the encoding {coding!r}, which was not asked for")
    if coding == "deflate" and not _has_zlib_head(body):
        # Some servers send what is inside only.
        return _inflated(body, -zlib.MAX_WBITS)
    return _inflated(body, 32 + zlib.MAX_WBITS)


def _has_zlib_head(body: bytes) -> bool:
    return len(body) > 1 and body[0] & 15 == 8 and (body[0] << 8 | body[1]) % 31 == 0


def _inflated(body: bytes, window: int) -> bytes:
    page = bytearray()
    if not body:
        return b""
    for _ in range(_MAX_PARTS):
        part = zlib.decompressobj(window)
        try:
            page += part.decompress(body, MAX_PAGE + 1 - len(page))
        except zlib.error as error:
            raise ValueError(f"the page cannot be unpacked: {error}") from None
        if len(page) > MAX_PAGE:
            raise ValueError(f"the page is longer than {MAX_PAGE} bytes")
        if not part.eof:
            raise ValueError("the page cannot be unpacked: its end is missing")
        # A gzip file may have several parts.
        body = part.unused_data.lstrip(b"\0")
        if not body:
            return bytes(page)
    raise ValueError(f"the page cannot be unpacked: it has more than {_MAX_PARTS} parts")


def decode(body: bytes, headers: HTTPMessage) -> str:
    """Gives the text; no character is replaced by another without a word: that is a ValueError.

    The encoding is that of a byte order mark, else the header's, else what the beginning declares, else
    UTF-8 if the bytes are, else windows-1252, as a browser in the West has it.
    """
    for mark, name in _MARKS:
        if body.startswith(mark):
            return _decoded(body[len(mark) :], name, "its byte order mark says")
    said = headers.get_content_charset()
    in_header = _encoding(said) if said else None
    if in_header is not None:
        return _decoded(body, in_header, "its header says")
    start = _COMMENT.sub(b"", body[:_PRESCAN])
    declared = _XML.match(start) or _META.search(start)
    in_page = _encoding(declared[1].decode("ascii", "replace")) if declared else None
    if in_page is not None:
        # A page whose tags can be read byte by byte is not UTF-16, whatever it says.
        return _decoded(body, "utf-8" if in_page.startswith("utf-16") else in_page, "it says itself")
    try:
        return body.decode()
    except UnicodeDecodeError:
        return _decoded(body, "cp1252", "its bytes look like, since it declares nothing")


def _encoding(label: str) -> str | None:
    """Finds the codec that reads what browsers call `label`; None for what is none."""
    known = label.strip().lower().removeprefix("x-").replace("windows-31j", "cp932")
    known = re.sub("^windows-", "cp", known)
    try:
        name = codecs.lookup(known).name
    except (LookupError, ValueError):
        return None
    name = _LARGER.get(name, name)
    return name if _CHARACTERS.match(name) else None


def _decoded(body: bytes, name: str, found: str) -> str:
    try:
        return body.decode(name)
    except UnicodeDecodeError as error:
        where = f"byte {error.start} is no part of a character"
        raise ValueError(f"the page is not the {name} that {found}: {where}") from None
