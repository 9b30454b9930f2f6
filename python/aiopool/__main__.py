"""`python -m aiopool`."""

from __future__ import annotations

import sys

from . import doctor

_USAGE = "usage: python -m aiopool doctor   # what this machine allows, and what to change"


def main(words: list[str]) -> int:
    """Runs the command that `words` name."""
    if words == ["doctor"]:
        return doctor.main()
    print(_USAGE, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
