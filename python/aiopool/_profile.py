"""What workers spend their time on, by cProfile: each writes a file when it leaves, the host adds
them up."""

from __future__ import annotations

import cProfile
import os
import pstats
import shutil
import tempfile
import weakref

from . import _leaving, _wire


class Profiled:
    """The worker's side: the profile of its event loop's thread."""

    def __init__(self, folder: str) -> None:
        self._path = os.path.join(folder, f"{os.getpid()}.prof")
        self._profile = cProfile.Profile()
        self._profile.enable()

    def leave(self) -> None:
        """Writes the profile."""
        try:
            self._profile.disable()
            # A worker that is killed meanwhile leaves no half of a file.
            self._profile.dump_stats(f"{self._path}.part")
            os.rename(f"{self._path}.part", self._path)
        except BaseException as error:
            _leaving.say(_wire.error_text(error))


class Profiles:
    """The host's side: a folder that goes with the pool."""

    def __init__(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="aiopool-profile-")
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)

    def merged(self) -> pstats.Stats:
        """Adds up what the workers that have left have written."""
        names = [name for name in os.listdir(self.folder) if name.endswith(".prof")]
        if not names:
            raise RuntimeError("no worker has left yet: profiles are there when the pool is over")
        return pstats.Stats(*(os.path.join(self.folder, name) for name in sorted(names)))
