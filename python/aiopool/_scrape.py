"""`python -m aiopool scrape`: the reference workload, a shop's books into one CSV file.

As `aiopool scrape` of the command line has it, with what Python has: plain functions in workers.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import os
import sys
import time
from html.parser import HTMLParser
from http.client import HTTPException
from typing import Any, NamedTuple
from urllib.error import URLError
from urllib.parse import urljoin
from urllib.request import Request, urlopen

#: List pages that the built-in site of `aiopool site` has.
LIST_PAGES = 50
# Seconds that a server may be silent.
_SILENCE = 30
# Pages in flight in each worker.
_THREADS = 8
# Elements without an end.
_VOID = frozenset("area base br col embed hr img input link meta source track wbr".split())


class Book(NamedTuple):
    """One row."""

    title: str
    price: str
    description: str


class _Element(NamedTuple):
    tag: str
    id: str
    classes: list[str]


class _Page(HTMLParser):
    """What the two kinds of pages say."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.base: str | None = None
        self.links: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[_Element] = []
        # By depth, the last element there that has ended.
        self._before: list[_Element | None] = [None]
        # What is read, and the depth of its element.
        self._reads: tuple[str, int] | None = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = dict(attrs)
        if tag == "p" and self._open and self._open[-1].tag == "p":
            self._end()
        if tag == "base" and self.base is None:
            self.base = said.get("href")
        if tag == "a" and said.get("href") and self._within("product_pod", "image_container"):
            self.links.append(said["href"] or "")
        element = _Element(tag, said.get("id") or "", (said.get("class") or "").split())
        what = self._what(element)
        self._open.append(element)
        self._before.append(None)
        if what is not None and what not in self.texts:
            self.texts[what] = []
            self._reads = what, len(self._open)
        if tag in _VOID:
            self._end()

    def handle_endtag(self, tag: str) -> None:
        if any(element.tag == tag for element in self._open):
            while self._end() != tag:
                pass

    def handle_data(self, data: str) -> None:
        if self._reads is not None:
            self.texts[self._reads[0]].append(data)

    def text(self, what: str) -> str:
        """What the page says of its book."""
        return "".join(self.texts.get(what, [])).strip()

    def _what(self, element: _Element) -> str | None:
        before = self._before[-1]
        if element.tag == "p" and before is not None and before.id == "product_description":
            return "description"
        if not self._within("product_main"):
            return None
        if element.tag == "h1":
            return "title"
        return "price" if element.tag == "p" and "price_color" in element.classes else None

    def _within(self, *classes: str) -> bool:
        """Whether open elements have these classes, from the outermost on."""
        elements = iter(self._open)
        return all(any(name in element.classes for element in elements) for name in classes)

    def _end(self) -> str:
        element = self._open.pop()
        self._before.pop()
        self._before[-1] = element
        if self._reads is not None and len(self._open) < self._reads[1]:
            self._reads = None
        return element.tag


def _fetched(url: str) -> tuple[str, _Page]:
    """The page, and the address that it came from in the end."""
    if not url.startswith(("http://", "https://")):
        # A page may name what is not on any server.
        raise ValueError(f"{url}: only http and https are fetched")
    request = Request(url, headers={"User-Agent": "aiopool"})
    try:
        with urlopen(request, timeout=_SILENCE) as response:
            came_from, page = response.geturl(), response.read()
            charset = response.headers.get_content_charset() or "utf-8"
        return came_from, _Page(page.decode(charset))
    except (URLError, HTTPException) as error:
        # The first has the connection, which cannot be sent.
        raise OSError(f"{url}: {error}") from None
    except (UnicodeDecodeError, LookupError) as error:
        # A row with characters that the page has not is worse than none.
        raise ValueError(f"{url}: {error}") from None


def fetch_list(url: str) -> list[str]:
    """Gives the addresses of the books on a list page."""
    came_from, page = _fetched(url)
    if not page.links:
        raise ValueError(f"{url}: no book on the list page")
    base = urljoin(came_from, page.base or "")
    return [urljoin(base, link) for link in page.links]


def fetch_detail(url: str) -> Book:
    """Gives the book of a detail page; without a description it is an empty one."""
    _, page = _fetched(url)
    book = Book(*map(page.text, Book._fields))
    if not (book.title and book.price):
        raise ValueError(f"{url}: no title or no price on the detail page")
    return book


async def _books(
    base: str, pages: int, processes: int, nats: str | None, access: dict[str, Any]
) -> tuple[list[Book], dict[str, int]]:
    # A worker that imports this module needs no pool.
    from .cluster import Cluster
    from .pool import Pool

    lists = [urljoin(base, f"catalogue/page-{page}.html") for page in range(1, pages + 1)]
    workers = Pool(processes, threads=_THREADS) if nats is None else Cluster(nats, **access)
    async with workers as pool:
        found = await pool.map(fetch_list, lists)
        books = await pool.map(fetch_detail, [url for urls in found for url in urls])
        return books, pool.stats()["nodes"] if isinstance(pool, Cluster) else {}


def main(words: list[str]) -> int:
    """Scrapes as `words` say."""
    # Not what a worker needs.
    from .node import access, add_access

    parser = argparse.ArgumentParser(
        prog="python -m aiopool scrape",
        description="Scrapes a book shop into a CSV file.",
        epilog="`aiopool site` of the command line serves such a shop, and prints its URL.",
    )
    parser.add_argument("--base-url", required=True, help="the shop, built like books.toscrape.com")
    parser.add_argument("--out", default="books.csv", help="the file (books.csv)")
    parser.add_argument("--pages", type=int, default=LIST_PAGES, help="list pages (50)")
    parser.add_argument(
        "--processes", type=int, default=len(os.sched_getaffinity(0)), help="workers (one a processor)"
    )
    parser.add_argument(
        "--nats", metavar="URL", help="the servers of the nodes that scrape, instead of workers here"
    )
    add_access(parser)
    options = parser.parse_args(words)
    if options.pages < 1 or options.processes < 1:
        parser.error("--pages and --processes are at least 1")
    begun = time.perf_counter()
    try:
        reached = {} if options.nats is None else access(parser, options)
        scraping = _books(options.base_url, options.pages, options.processes, options.nats, reached)
        books, nodes = asyncio.run(scraping)
        with open(options.out, "w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(Book._fields)
            rows.writerows(books)
    except (OSError, ValueError) as error:
        print(f"scrape: {error}", file=sys.stderr)
        return 1
    seconds, pages = time.perf_counter() - begun, options.pages + len(books)
    with_what = f"{options.processes} workers" if options.nats is None else f"{len(nodes)} nodes"
    print(f"{len(books)} books from {pages} pages in {seconds:.3f} s with {with_what}")
    for name, count in nodes.items():
        print(f"{name}: {count} tasks")
    return 0
