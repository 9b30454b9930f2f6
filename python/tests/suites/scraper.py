"""The article's scraper: 50 list pages, their 1,000 books, one CSV.

Against `aiopool site`: python scraper.py http://127.0.0.1:PORT/ books.csv
The same file ran on aiomultiprocess with `from aiomultiprocess import Pool`.
"""

import asyncio
import csv
import sys
from urllib.parse import urljoin

import aiohttp
from bs4 import BeautifulSoup

from aiopool import Pool


async def fetch(url):
    async with aiohttp.ClientSession() as session:
        async with session.get(url) as response:
            response.raise_for_status()
            return BeautifulSoup(await response.text(encoding="utf-8"), "html.parser")


async def fetch_list(url):
    page = await fetch(url)
    links = page.select("article.product_pod div.image_container a[href]")
    return [urljoin(url, link["href"]) for link in links]


async def fetch_detail(url):
    page = await fetch(url)
    description = page.select_one("div#product_description + p")
    return {
        "title": page.select_one("div.product_main h1").get_text(),
        "price": page.select_one("div.product_main p.price_color").get_text(),
        "description": description.get_text() if description else "",
    }


async def main(base, path):
    lists = [urljoin(base, f"catalogue/page-{page}.html") for page in range(1, 51)]
    urls, books = [], []
    async with Pool() as pool:
        async for found in pool.map(fetch_list, lists):
            urls.extend(found)
        async for book in pool.map(fetch_detail, urls):
            books.append(book)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=books[0].keys())
        writer.writeheader()
        writer.writerows(books)
    print(f"{len(books)} books")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
