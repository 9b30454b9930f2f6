"""`python -m aiopool`."""

from __future__ import annotations

import sys

from . import _scrape, doctor, observed

_USAGE = """usage: python -m aiopool doctor   # what this machine allows, and what to change
       python -m aiopool ps       # the pools of this user
       python -m aiopool top      # these and their workers, each second until Ctrl-C
       python -m aiopool node     # a node of a cluster over NATS; --help says more
       python -m aiopool scrape   # the reference workload; --help says more"""


def main(words: list[str]) -> int:
    """Runs the command that `words` name."""
    if words == ["doctor"]:
        return doctor.main()
    if words == ["ps"]:
        return observed.ps()
    if words == ["top"]:
        return observed.top()
    if words[:1] == ["scrape"]:
        return _scrape.main(words[1:])
    if words[:1] == ["node"]:
        from . import node

        return node.main(words[1:])
    print(_USAGE, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
