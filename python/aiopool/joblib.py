"""joblib on this package: `import aiopool.joblib`, then `joblib.parallel_config("aiopool")`."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from joblib import (  # type: ignore[import-not-found,import-untyped,unused-ignore]
    cpu_count,
    register_parallel_backend,
)
from joblib.parallel import (  # type: ignore[import-not-found,import-untyped,unused-ignore]
    AutoBatchingMixin,
    ParallelBackendBase,
)

from .executor import ProcessPoolExecutor


#: What `joblib.parallel_config` and `joblib.Parallel` take for the executor.
_OPTIONS = ("initializer", "initargs", "max_tasks_per_child", "preload", "limits", "sandbox")


class Backend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc,unused-ignore]
    """Runs joblib's batches in worker processes, of which one that dies breaks nothing else."""

    supports_retrieve_callback = True
    default_n_jobs = -1

    _executor: ProcessPoolExecutor | None = None

    # joblib, which has no types, raises where these return.
    def effective_n_jobs(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, n_jobs: int | None
    ) -> int:
        """Returns how many workers `n_jobs` asks for."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            return 1
        if n_jobs < 0:
            return max(int(cpu_count()) + 1 + n_jobs, 1)
        return n_jobs

    def configure(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, n_jobs: int = 1, parallel: Any = None, prefer: Any = None, require: Any = None,
        **options: Any,
    ) -> int:
        """Starts the workers. Returns how many there are."""
        workers = self.effective_n_jobs(n_jobs)
        self.parallel = parallel
        # Those of `parallel_config` and those of `Parallel`; joblib's own among them go unused.
        said = {**getattr(self, "backend_kwargs", {}), **options}
        chosen = {name: said[name] for name in _OPTIONS if said.get(name) is not None}
        self._executor = ProcessPoolExecutor(workers, **chosen)
        return workers

    def submit(self, func: Callable[[], Any], callback: Any = None) -> Future[Any]:
        """Submits a batch; `callback` gets its future."""
        assert self._executor is not None
        future = self._executor.submit(func)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    #: The name of `submit` in joblib before 1.5.
    apply_async = submit

    def retrieve_result_callback(self, out: Future[Any]) -> Any:
        """Returns the results of a batch, or raises its error."""
        return out.result()

    def terminate(self) -> None:
        """Ends the workers once their batches are over."""
        executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait=False)
        self.reset_batch_stats()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Ends all batches at once, and starts anew if the caller goes on."""
        executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait=False, cancel_futures=True)
            executor.terminate()
        if ensure_ready:
            said = getattr(self.parallel, "_backend_kwargs", {})
            self.configure(n_jobs=self.parallel.n_jobs, parallel=self.parallel, **said)


register_parallel_backend("aiopool", Backend)
