"""Programs that are frozen into one file, such as PyInstaller's."""

from __future__ import annotations

import sys

from . import _state


def freeze_support() -> None:
    """Makes a frozen program that was started as a worker one; in others it does nothing.

    The first thing that the main module does, after imports.
    """
    _state.frozen_supported = True
    if sys.argv[1:2] == [_state.WORKER_ARGUMENT]:
        from ._worker import main

        main()
        sys.exit(0)
