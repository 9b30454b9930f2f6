"""`python -m aiopool scrape`: the reference workload, a shop's books into one CSV file.

As `aiopool scrape` of the command line has it, with what Python has: plain functions in workers.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import sys
import time
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import urljoin

from . import _web
from ._native import processors

if TYPE_CHECKING:
    from .pool import AnyPool

T = TypeVar("T")

#: List pages that the built-in site of `aiopool site` has.
LIST_PAGES = 50
# Characters that the parser is given at a time, and the seconds of computing for one page.
_PIECE, _LIMIT = 1024, 2
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
    #: Which of `_PLACES` begin at it.
    begins: list[str]


#: Places on a page by their class, and the place in which each has to be.
_PLACES = {"product_pod": None, "image_container": "product_pod", "product_main": None}


class _Page(HTMLParser):
    """What the two kinds of pages say."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.base: str | None = None
        self.links: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[_Element] = []
        # Of the open elements: how many have a tag, and how many of each place there are. A page may be
        # a hundred thousand elements deep.
        self._tags: Counter[str] = Counter()
        self._within: Counter[str] = Counter()
        # By depth, the last element there that has ended.
        self._before: list[_Element | None] = [None]
        # What is read, and the depth of its element.
        self._reads: tuple[str, int] | None = None
        # Of this thread alone: other pages are read beside this one.
        limit = time.thread_time() + _LIMIT
        for start in range(0, len(text), _PIECE):
            if time.thread_time() > limit:
                read = f"{start} of its {len(text)} characters took {_LIMIT} s"
                raise ValueError(f"the page takes too long to read: {read}, the limit for one page")
            self.feed(text[start : start + _PIECE])
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = dict(attrs)
        if tag == "p" and self._open and self._open[-1].tag == "p":
            self._end()
        if tag == "base" and self.base is None:
            self.base = said.get("href")
        if tag == "a" and said.get("href") and self._within["image_container"]:
            self.links.append(said["href"] or "")
        classes = (said.get("class") or "").split()
        places = [name for name in classes if name in _PLACES]
        begins = [name for name in places if (of := _PLACES[name]) is None or self._within[of]]
        element = _Element(tag, said.get("id") or "", begins)
        what = self._what(tag, classes)
        self._open.append(element)
        self._tags[tag] += 1
        self._within.update(begins)
        self._before.append(None)
        if what is not None and what not in self.texts:
            self.texts[what] = []
            self._reads = what, len(self._open)
        if tag in _VOID:
            self._end()

    def handle_endtag(self, tag: str) -> None:
        if self._tags[tag]:
            while self._end() != tag:
                pass

    def handle_data(self, data: str) -> None:
        if self._reads is not None:
            self.texts[self._reads[0]].append(data)

    def text(self, what: str) -> str:
        """What the page says of its book."""
        return "".join(self.texts.get(what, [])).strip()

    def _what(self, tag: str, classes: list[str]) -> str | None:
        before = self._before[-1]
        if tag == "p" and before is not None and before.id == "product_description":
            return "description"
        if not self._within["product_main"]:
            return None
        if tag == "h1":
            return "title"
        return "price" if tag == "p" and "price_color" in classes else None

    def _end(self) -> str:
        element = self._open.pop()
        self._tags[element.tag] -= 1
        self._within.subtract(element.begins)
        self._before.pop()
        self._before[-1] = element
        if self._reads is not None and len(self._open) < self._reads[1]:
            self._reads = None
        return element.tag


def _fetched(url: str) -> tuple[str, _Page]:
    """The page, and the address that it came from in the end."""
    came_from, text = _web.fetch(url)
    return came_from, _Page(text)


def fetch_list(url: str) -> list[str]:
    """Gives the addresses of the books on a list page."""
    came_from, page = _fetched(url)
    if not page.links:
        raise ValueError("no book on the list page")
    base = urljoin(came_from, page.base or "")
    return [urljoin(base, link) for link in page.links]


def fetch_detail(url: str) -> Book:
    """Gives the book of a detail page; without a description it is an empty one."""
    _, page = _fetched(url)
    book = Book(*map(page.text, Book._fields))
    if not (book.title and book.price):
        raise ValueError("no title or no price on the detail page")
    return book


class _Harvest(NamedTuple):
    """What a scrape came to."""

    books: list[Book]
    #: List pages that were read.
    lists: int
    #: Pages of either kind that could not be had, and why.
    failures: list[tuple[str, BaseException]]
    #: Tasks that each node did.
    nodes: dict[str, int]


async def _read(
    pool: AnyPool, read: Callable[[str], T], urls: list[str], failures: list[tuple[str, BaseException]]
) -> list[T]:
    """Reads pages; one that cannot be had costs its own row, and is added to `failures`."""
    pages = []
    for url, page in zip(urls, await pool.map(read, urls, return_exceptions=True), strict=True):
        if isinstance(page, BaseException):
            failures.append((url, page))
        else:
            pages.append(page)
    return pages


async def _harvest(
    base: str, pages: int, processes: int, nats: str | None, access: dict[str, Any]
) -> _Harvest:
    # A worker that imports this module needs no pool.
    from .cluster import Cluster
    from .pool import Pool

    lists = [urljoin(base, f"catalogue/page-{page}.html") for page in range(1, pages + 1)]
    workers = Pool(processes, threads=_THREADS) if nats is None else Cluster(nats, **access)
    failures: list[tuple[str, BaseException]] = []
    async with workers as pool:
        found = await _read(pool, fetch_list, lists, failures)
        books = await _read(pool, fetch_detail, [url for links in found for url in links], failures)
        nodes = pool.stats()["nodes"] if isinstance(pool, Cluster) else {}
    return _Harvest(books, len(found), failures, nodes)


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
        "--processes", type=int, default=processors(), help="workers (one a processor)"
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
        scraping = _harvest(options.base_url, options.pages, options.processes, options.nats, reached)
        books, lists, failures, nodes = asyncio.run(scraping)
        with open(options.out, "w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(Book._fields)
            rows.writerows(books)
    except (OSError, ValueError) as error:
        print(f"scrape: {error}", file=sys.stderr)
        return 1
    for url, failure in failures:
        print(f"failed: {url}: {failure}", file=sys.stderr)
    seconds, pages = time.perf_counter() - begun, lists + len(books)
    with_what = f"{options.processes} workers" if options.nats is None else f"{len(nodes)} nodes"
    print(f"{len(books)} books from {pages} pages in {seconds:.3f} s with {with_what}")
    for name, count in nodes.items():
        print(f"{name}: {count} tasks")
    return 1 if failures else 0
