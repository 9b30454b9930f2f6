"""What workers log and warn of, on its way to the host's `logging`.

A worker's root logger sends each record to the host, whole and without waiting; what finds no room is
dropped and counted. The host gives the records to its loggers, of the same names.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
import weakref

from ._native import Records, Worker

# Loggers of workers that the host makes, at most: workers may invent names.
_MOST_NAMES = 1000
# Characters of a name or a path that travel.
_LONGEST = 200
_OTHER = "aiopool.worker"


def levels() -> dict[str, int]:
    """The levels that this process has set, by logger; the root's under an empty name."""
    root = logging.getLogger()
    found = {"": max(root.level, root.manager.disable)}
    for name, logger in list(root.manager.loggerDict.items()):
        if isinstance(logger, logging.Logger) and logger.level and len(found) < _MOST_NAMES:
            found[name] = logger.level
    return found


class ToHost(logging.Handler):
    """The handler of a worker's root logger."""

    def __init__(self, worker: Worker) -> None:
        super().__init__()
        self.worker = worker
        self.formatter = logging.Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
            if record.exc_info and not record.exc_text and self.formatter:
                record.exc_text = self.formatter.formatException(record.exc_info)
            for more in (record.exc_text, record.stack_info):
                if more:
                    text = f"{text}\n{more}"
            place = [
                record.levelno,
                record.pathname[-_LONGEST:],
                record.lineno,
                str(record.funcName)[:_LONGEST],
                record.created,
                str(record.threadName)[:_LONGEST],
            ]
            about = json.dumps(place, ensure_ascii=False)
            name = record.name[:_LONGEST]
            if not text.isascii() or not about.isascii() or not name.isascii():
                # What has no form in UTF-8, such as a part of a path, has one afterwards.
                text, about, name = (
                    word.encode(errors="replace").decode() for word in (text, about, name)
                )
            self.worker.log(record.levelno, name, text, about)
        except Exception:
            self.handleError(record)


def install(worker: Worker, levels: dict[str, int] | None) -> ToHost | None:
    """Has what this worker logs go to the host, unless it is set up in another way."""
    root = logging.getLogger()
    if levels is None or root.handlers:
        return None
    handler = ToHost(worker)
    root.addHandler(handler)
    for name, level in levels.items():
        logger = logging.getLogger(name or None)
        # Setting it has each logger forget what it knows, in memory that copies share.
        if logger.level != level:
            logger.setLevel(level)
    logging.captureWarnings(True)
    return handler


def keep(handler: ToHost | None) -> None:
    """The initializer has run: if it has set up logging, that is how this worker logs."""
    root = logging.getLogger()
    if handler is not None and (handler not in root.handlers or len(root.handlers) > 1):
        root.removeHandler(handler)
        logging.captureWarnings(False)


class Listener:
    """The host's end: gives the records of one pool's workers to the host's loggers.

    In the event loops that wait for the pool's outcomes, or in a thread of its own.
    """

    def __init__(self, records: Records) -> None:
        self.records, self.lock = records, threading.RLock()
        self.loops: dict[asyncio.AbstractEventLoop, int] = {}
        os.set_blocking(records.fileno(), False)

    def start_thread(self) -> None:
        """Has a thread wait for records, until the pool has ended."""
        os.set_blocking(self.records.fileno(), True)
        name = "aiopool-logs"
        threading.Thread(target=self.listen, name=name, daemon=True).start()

    def listen(self) -> None:
        while self.look():
            pass

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Has an event loop wait for records."""
        copy = self.loops[loop] = os.dup(self.records.fileno())
        reference: weakref.ref[Listener] = weakref.ref(self)
        loop.add_reader(copy, _readable, reference, loop, copy)

    def detach(self, loop: asyncio.AbstractEventLoop) -> int | None:
        """Returns the descriptor that the loop is to watch no more."""
        return self.loops.pop(loop, None)

    def look(self) -> bool:
        """Gives what has come. False if there will be no more."""
        try:
            more = os.read(self.records.fileno(), 4096) != b""
        except BlockingIOError:
            more = True
        self.give()
        return more

    def give(self) -> None:
        """Gives what has come; afterwards all that came before is given."""
        with self.lock:
            for row in self.records.take():
                try:
                    _give(*row)
                except Exception:
                    # A filter or a handler that does not obey the rules: the next one may.
                    logging.Handler().handleError(_record(*row))


def _readable(
    reference: weakref.ref[Listener], loop: asyncio.AbstractEventLoop, descriptor: int
) -> None:
    listener = reference()
    if listener is None or not listener.look():
        loop.remove_reader(descriptor)
        if listener is not None and listener.detach(loop) is not None:
            os.close(descriptor)


def _give(
    level: int, name: str, text: str, place: str, worker: int, pid: int, task: int | None
) -> None:
    record = _record(level, name, text, place, worker, pid, task)
    logger = logging.getLogger(record.name)
    if logger.isEnabledFor(record.levelno):
        logger.handle(record)


def _record(
    level: int, name: str, text: str, place: str, worker: int, pid: int, task: int | None
) -> logging.LogRecord:
    name = name.replace("::", ".")
    known = logging.getLogger().manager.loggerDict
    if name not in known and len(known) >= _MOST_NAMES:
        name = _OTHER
    path, line, function, created, thread = "", 0, None, None, ""
    try:
        level, path, line, function, created, thread = json.loads(place)
    except ValueError:
        # The engine's own word, or one that was cut.
        pass
    record = logging.LogRecord(name, level, path, line, text, None, None, function)
    if isinstance(created, float):
        record.relativeCreated -= (record.created - created) * 1000
        record.created = created
        record.msecs = created % 1 * 1000
    record.process, record.processName = pid, f"aiopool-worker-{worker}"
    record.threadName = thread
    #: For formats and filters of the user's.
    record.worker, record.task = worker, task
    return record
