"""The article's scraper, with its import changed, and the package's own give the rows of
`aiopool scrape`."""

import csv
import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).parent
#: The program of this repository; `python/test-wheel` builds it.
PROGRAM = os.environ.get("AIOPOOL", HERE.parents[2] / "target" / "release" / "aiopool")


def rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_same_thousand_rows(tmp_path):
    article, ours, theirs = (tmp_path / name for name in ("article.csv", "python.csv", "rust.csv"))
    site = subprocess.Popen([PROGRAM, "site"], stdout=subprocess.PIPE, text=True)
    with site:
        try:
            url = site.stdout.readline().strip()
            for command in (
                [sys.executable, HERE / "scraper.py", url, article],
                [sys.executable, "-m", "aiopool", "scrape", "--base-url", url, "--out", ours],
                [PROGRAM, "scrape", "--base-url", url, "--out", theirs],
            ):
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=300)
        finally:
            site.terminate()
    assert len(rows(theirs)) == 1000
    assert rows(article) == rows(theirs)
    assert ours.read_bytes() == theirs.read_bytes()
