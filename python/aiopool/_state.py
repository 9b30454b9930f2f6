"""What this process is for the package."""

#: A worker is importing the host's main module: a script that builds a pool at its top level would
#: build one in each worker, and so on.
importing_main = False

#: The main module builds its pool outside of `if __name__ == '__main__':`, so that workers must not
#: import it.
main_is_unguarded = False

#: The one argument of a frozen program that is to be a worker.
WORKER_ARGUMENT = "--aiopool-worker"

#: `freeze_support` was called, so a frozen program can be its own workers.
frozen_supported = False
