"""Workers with limits and rules: what an unconfined worker may, a confined one is refused."""

import asyncio
import os
import pathlib
import socket
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from aiopool import Limits, Pool, Sandbox


def said(action):
    try:
        action()
        return "Success"
    except OSError as error:
        return os.strerror(error.errno)


def hundred_files():
    for file in [open("/dev/null") for _ in range(100)]:
        file.close()


def new_file():
    path = pathlib.Path("/tmp/aiopool-trespass")
    path.touch()
    path.unlink()


async def trespass():
    network = said(lambda: socket.socket().close())
    return f"files {said(hundred_files)}, socket {network}, writing {said(new_file)}"


async def main():
    async with Pool(1) as pool:
        assert await pool.apply(trespass) == "files Success, socket Success, writing Success"
    rules = Sandbox(read_only=["/"], read_write=["/dev"], network=False)
    async with Pool(1, limits=Limits(open_files=64), sandbox=rules) as pool:
        print("confined:", await pool.apply(trespass))


if __name__ == "__main__":
    asyncio.run(main())
