"""`python -m aiopool scrape`, on pages that are unlike the built-in site's."""

import csv
import gzip
import subprocess
import sys
import threading
import time
import zlib
from email.message import Message
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import nats
import pytest
from aiopool import _scrape, _web
from pools import WATCHDOG

pytestmark = pytest.mark.engine
LINK = "<article class='a product_pod'><div class=image_container><a href='%s'><img></a></div></article>"
MAIN = "<div class='row product_main'><h1> %s </h1><p class='x price_color'>£%s</p><p>22 in stock</div>"
PAGES = {
    "/catalogue/page-1.html": "<base href='/books/'>" + LINK % "one.html" + LINK % "two.html" + "<a href=no>",
    "/books/one.html": MAIN % ("A &amp; B<br/>", "5")
    + "<div id=product_description><h2>Description</h2></div>\n<p>Two\n<b>lines</b>, \"quoted\"<p>no more",
    "/books/two.html": MAIN % ("Die Brücke", "6") + "<div id=other></div><p>nothing",
    "/empty/catalogue/page-1.html": "<a href=one.html>no book</a>",
    "/file/catalogue/page-1.html": LINK % "file:///etc/hostname",
    "/cheap/catalogue/page-1.html": LINK % "none.html",
    "/cheap/catalogue/none.html": MAIN % ("", "7"),
    "/latin/catalogue/page-1.html": LINK % "is.html" + LINK % "is-not.html",
    "/latin/catalogue/is.html": (MAIN % ("Brücke", "7")).encode("latin-1"),
    "/latin/catalogue/is-not.html": ("<meta charset=utf-8>" + MAIN % ("Brücke", "8")).encode("latin-1"),
    "/busy/catalogue/page-1.html": LINK % "429.html" + LINK % "503.html" + LINK % "long.html" + LINK % "down.html",
    "/deep/catalogue/page-1.html": LINK % "deep.html" + LINK % "../../books/one.html",
    "/deep/catalogue/deep.html": "<ul><li>" * (1 << 17),
    "/away/catalogue/page-1.html": LINK % "/books/%C3%BC ber.html" + LINK % "über.html",
    "/books/%C3%BC%20ber.html": MAIN % ("Über", "9"),
    "/away/catalogue/%C3%BCber.html": MAIN % ("Über", "10"),
}
# The last is what some servers take for "deflate": without the head and the tail of zlib.
PACKED = {"gzip": gzip.compress, "deflate": zlib.compress, "raw": lambda page: zlib.compress(page)[2:-4]}


class Shop(BaseHTTPRequestHandler):
    def do_GET(self):
        asked = self.server.asked
        asked[self.path] = asked.get(self.path, 0) + 1
        _, first, *_, name = self.path.split("/")
        packing = PACKED.get(first)
        page = PAGES.get(self.path.removeprefix(f"/{first}") if packing else self.path)
        status = 200 if page else 404
        head = {}
        if first == "busy" and name != "page-1.html":
            page, status = MAIN % (name, "1"), 200
            if asked[self.path] <= 2:
                status = 503
            if name == "429.html" and status != 200:
                status, head["Retry-After"] = 429, "0"
            if name == "long.html":
                status, head["Retry-After"] = 429, formatdate(time.time() + 7200, usegmt=True)
            if name == "down.html":
                status = 500
        page = page if isinstance(page, bytes) else (page or "").encode()
        if packing:
            page = packing(page)
            head["Content-Encoding"] = "deflate" if first == "raw" else first
        self.send_response(status)
        for item in head.items():
            self.send_header(*item)
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, *_):
        pass


@pytest.fixture
def shop():
    with ThreadingHTTPServer(("127.0.0.1", 0), Shop) as server:
        server.asked = {}
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        serving.join()


def scrape(*words):
    command = [sys.executable, "-m", "aiopool", "scrape", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=WATCHDOG)


def rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


BOOKS = [
    ["title", "price", "description"],
    ["A & B", "£5", 'Two\nlines, "quoted"'],
    ["Die Brücke", "£6", ""],
]


def test_books_in_the_order_of_the_list(shop, tmp_path):
    out = tmp_path / "books.csv"
    done = scrape("--base-url", shop, "--pages", 1, "--processes", 2, "--out", out)
    assert done.returncode == 0 and done.stdout.startswith("2 books from 3 pages in "), done
    assert rows(out) == BOOKS


@pytest.mark.parametrize("packing", PACKED)
def test_a_site_that_always_compresses_is_read(shop, tmp_path, packing):
    out = tmp_path / "books.csv"
    done = scrape("--base-url", f"{shop}{packing}/", "--pages", 1, "--processes", 1, "--out", out)
    # What the list's `<base>` names is not packed.
    assert done.returncode == 0 and rows(out) == BOOKS, done


def test_a_busy_site_is_asked_again(shop, tmp_path):
    out = tmp_path / "books.csv"
    done = scrape("--base-url", shop + "busy/", "--pages", 1, "--processes", 1, "--out", out)
    # A page that cannot be had costs its own row, and says why.
    assert [title for title, *_ in rows(out)[1:]] == ["429.html", "503.html"], done
    failed = done.stderr.splitlines()
    assert done.returncode == 1 and len(failed) == 2, done
    assert failed[0].startswith(f"failed: {shop}busy/catalogue/long.html: the site answered 429 Too Many"), done
    assert "longer than 120 s" in failed[0] and "gave up after 4 tries: the site answered 500" in failed[1], done


def test_a_deep_page_costs_its_own_row(shop, tmp_path):
    out = tmp_path / "books.csv"
    done = scrape("--base-url", shop + "deep/", "--pages", 1, "--processes", 1, "--out", out)
    assert rows(out) == BOOKS[:2] and done.stderr.count("failed: ") == 1, done


def test_a_page_that_takes_too_long_is_given_up(monkeypatch):
    monkeypatch.setattr(_scrape, "_LIMIT", 0)
    with pytest.raises(ValueError, match="takes too long to read: 0 of its 5000 characters took 0 s"):
        _scrape._Page("<ul>" * 1250)


def test_addresses_as_they_are_read(shop, tmp_path):
    out = tmp_path / "books.csv"
    done = scrape("--base-url", shop + "away/", "--pages", 1, "--processes", 1, "--out", out)
    assert done.returncode == 0 and [price for _, price, _ in rows(out)[1:]] == ["£9", "£10"], done


def test_characters_as_a_browser_reads_them(shop, tmp_path):
    out = tmp_path / "books.csv"
    done = scrape("--base-url", shop + "latin/", "--pages", 1, "--processes", 1, "--out", out)
    assert rows(out)[1:] == [["Brücke", "£7", ""]] and done.returncode == 1, done
    assert "is-not.html: the page is not the utf-8 that it says itself: byte" in done.stderr, done

    def read(page, said="text/html"):
        head = Message()
        head["Content-Type"] = said
        return _web.decode(page, head)

    assert read(b"<meta charset=utf-8>Caf\xe9 \x80", "text/html; charset=ISO-8859-1").endswith("Café €")
    assert read(b"\xef\xbb\xbfCaf\xc3\xa9", "text/html; charset=latin1") == "Café"
    assert read(b"\xff\xfeC\0a\0f\0\xe9\0") == "Café"
    assert read(b"<META http-equiv=Content-Type content='text/html; charset=iso-8859-15'>\xa4").endswith("€")
    assert read(b"<?xml version='1.0' encoding='ISO-8859-1'?>\x80").endswith("€")
    assert read("<meta charset=utf-16>Café".encode()).endswith("Café")
    assert read(b"<!-- <meta charset=koi8-r> --><meta charset=latin1>\xe9").endswith("é")
    for label in "shift_jis", "x-sjis", "windows-31j":
        assert read(b"\x93\xfa\x96\x7b", f"text/html; charset={label}") == "日本"
    # What is no encoding of characters for a browser is none.
    for label in "klingon", "rot13", "zlib", "utf-7", "idna":
        assert read("Café".encode(), f"text/html; charset={label}") == "Café"
    with pytest.raises(ValueError, match="not the utf-8 that its header says: byte 3 is no part"):
        read(b"Caf\xe9", "text/html; charset=utf-8")


def test_what_cannot_be_unpacked_is_said():
    def unpacked(body, coding):
        head = Message()
        head["Content-Encoding"] = coding
        return _web.unpacked(body, head)

    whole = gzip.compress(b"page")
    assert unpacked(whole + gzip.compress(b"s"), "gzip") == b"pages"
    for body, coding, why in [
        (whole[:-1], "gzip", "its end is missing"),
        (b"page", "gzip", "cannot be unpacked"),
        (whole, "br", "'br', which was not asked for"),
        (gzip.compress(bytes(_web.MAX_PAGE + 1)), "gzip", "longer than"),
    ]:
        with pytest.raises(ValueError, match=why):
            unpacked(body, coding)


def test_over_nodes_the_same_books(shop, tmp_path):
    here, there = tmp_path / "here.csv", tmp_path / "there.csv"
    assert scrape("--base-url", shop, "--pages", 1, "--out", here).returncode == 0
    with nats.Server() as server, nats.Node(server.url, "books", "--name", "n", "--threads", "2"):
        words = ["--base-url", shop, "--pages", 1, "--out", there, "--pool", "books"]
        done = scrape(*words, "--nats", server.url)
    assert done.returncode == 0 and "with 1 nodes\nn: 3 tasks\n" in done.stdout, done
    assert there.read_bytes() == here.read_bytes()


@pytest.mark.parametrize(
    "shelf, why",
    [
        ("empty/", "page-1.html: no book on the list page"),
        ("file/", "only http and https"),
        ("cheap/", "none.html: no title or no price"),
        ("missing/", "404"),
    ],
)
def test_a_page_that_is_none_is_said(shop, tmp_path, shelf, why):
    out = tmp_path / "none.csv"
    done = scrape("--base-url", shop + shelf, "--pages", 1, "--processes", 1, "--out", out)
    assert done.returncode == 1 and why in done.stderr and done.stderr.count("\n") == 1, done
    assert done.stderr.startswith("failed: ") and rows(out) == BOOKS[:1]


def test_the_site_has_to_be_named(tmp_path):
    done = scrape()
    assert done.returncode == 2 and "--base-url" in done.stderr
    assert "aiopool site" in scrape("--help").stdout
    assert scrape("--base-url", "http://127.0.0.1:1/", "--pages", 0).returncode == 2
