"""Runs the article's scraper and `aiopool scrape` against `aiopool site`: the same 1,000 rows."""

import csv
import os
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).parents[1]
PROGRAM = os.environ["AIOPOOL"]


def rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def main():
    with tempfile.TemporaryDirectory() as folder:
        site = subprocess.Popen([PROGRAM, "site"], stdout=subprocess.PIPE, text=True)
        try:
            url = site.stdout.readline().strip()
            ours, theirs = f"{folder}/python.csv", f"{folder}/rust.csv"
            environment = dict(os.environ, PYTHONPATH=str(HERE))
            scraper = [sys.executable, str(HERE / "scraper.py"), url, ours]
            subprocess.run(scraper, check=True, env=environment, stdout=subprocess.DEVNULL)
            scrape = [PROGRAM, "scrape", "--base-url", url, "--out", theirs]
            subprocess.run(scrape, check=True, stdout=subprocess.DEVNULL)
        finally:
            site.terminate()
            site.wait()
        ours, theirs = rows(ours), rows(theirs)
    if len(ours) != 1000 or ours != theirs:
        pairs = [pair for pair in zip(ours, theirs) if pair[0] != pair[1]]
        raise SystemExit(f"{len(ours)} and {len(theirs)} rows; the first that differ: {pairs[:1]}")
    print("scraper: 1000 books, the same rows as aiopool scrape")


if __name__ == "__main__":
    main()
