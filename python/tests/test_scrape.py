"""`python -m aiopool scrape`, on pages that are unlike the built-in site's."""

import csv
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import nats
import pytest
from pools import WATCHDOG

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
    "/latin/catalogue/page-1.html": LINK % "is.html",
    "/latin/catalogue/is.html": (MAIN % ("Brücke", "7")).encode("latin-1"),
}


class Shop(BaseHTTPRequestHandler):
    def do_GET(self):
        page = PAGES.get(self.path)
        self.send_response(200 if page else 404)
        self.end_headers()
        self.wfile.write(page if isinstance(page, bytes) else (page or "").encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def shop():
    with ThreadingHTTPServer(("127.0.0.1", 0), Shop) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        serving.join()


def scrape(*words):
    command = [sys.executable, "-m", "aiopool", "scrape", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=WATCHDOG)


def test_books_in_the_order_of_the_list(shop, tmp_path):
    out = tmp_path / "books.csv"
    done = scrape("--base-url", shop, "--pages", 1, "--processes", 2, "--out", out)
    assert done.returncode == 0 and done.stdout.startswith("2 books from 3 pages in "), done
    with open(out, newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [
            ["title", "price", "description"],
            ["A & B", "£5", 'Two\nlines, "quoted"'],
            ["Die Brücke", "£6", ""],
        ]


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
        ("latin/", "is.html: 'utf-8' codec can't decode"),
        ("missing/", "404"),
    ],
)
def test_a_page_that_is_none_is_said_and_no_file_is_written(shop, tmp_path, shelf, why):
    out = tmp_path / "none.csv"
    done = scrape("--base-url", shop + shelf, "--pages", 1, "--processes", 1, "--out", out)
    assert done.returncode == 1 and why in done.stderr and done.stderr.count("\n") == 1, done
    assert not out.exists()


def test_the_site_has_to_be_named(tmp_path):
    done = scrape()
    assert done.returncode == 2 and "--base-url" in done.stderr
    assert "aiopool site" in scrape("--help").stdout
    assert scrape("--base-url", "http://127.0.0.1:1/", "--pages", 0).returncode == 2
