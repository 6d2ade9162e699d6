"""The server's log: lines of JSON or of text, which never wait for whoever reads them."""

import json
import logging
import queue
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from engine.names import OneLine

STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
WAITING = 10_000
"""Lines that may wait to be written; further ones are dropped."""
CLOSE_S = 1.0
"""Time to write the lines that wait when the log is closed."""


class JsonLines(logging.Formatter):
    """Formats an event as a line of JSON: time, level, logger, message, and the fields logged as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        event: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        event |= {name: value for name, value in vars(record).items() if name not in STANDARD}
        if record.exc_info:
            event["traceback"] = self.formatException(record.exc_info)
        return json.dumps(event, default=str)  # ASCII: no codes for a terminal, whatever clients send


class QueuedLines(logging.Handler):
    """Writes lines in a thread of its own. When nobody reads them, lines are dropped and counted; nothing waits."""

    def __init__(self, stream: TextIO, formatter: logging.Formatter, waiting: int = WAITING) -> None:
        """Starts the thread. waiting: lines that may wait."""
        super().__init__()
        self._counting = threading.Lock()
        self._dropped = 0
        """How many lines were dropped and not yet reported."""
        self.setFormatter(formatter)
        self._stream = stream
        self._lines: queue.Queue[str | None] = queue.Queue(waiting)
        self._thread = threading.Thread(target=self._write, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception as exc:  # a log line must not fail a request, and must not be written around the queue
            line = f"a log line of {record.name} cannot be formatted: {type(exc).__name__}"
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self._drop()

    def close(self) -> None:
        """Ends the thread when the lines that wait are written, or when that takes too long."""
        try:
            self._lines.put(None, timeout=CLOSE_S)
        except queue.Full:
            return
        self._thread.join(CLOSE_S)
        super().close()

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            try:
                self._stream.write(f"{line}\n")
                if self._dropped:
                    self._stream.write(f"{self._told(self._reported())}\n")
                self._stream.flush()
            except (OSError, ValueError):  # the reader is gone
                self._drop()

    def _drop(self) -> None:
        """Counts a line that is dropped."""
        with self._counting:
            self._dropped += 1

    def _reported(self) -> int:
        """Returns how many lines were dropped since the last call."""
        with self._counting:
            dropped, self._dropped = self._dropped, 0
        return dropped

    def _told(self, dropped: int) -> str:
        fields = (__name__, logging.WARNING, "", 0, "%d lines of the log were dropped: they were not read", (dropped,))
        return self.format(logging.LogRecord(*fields, None))


@contextmanager
def queued(stream: TextIO, *, as_json: bool) -> Iterator[logging.Handler]:
    """Gives a handler for the log. Warnings of libraries and errors that nobody catches go into the log, too."""
    handler = QueuedLines(stream, JsonLines() if as_json else OneLine())
    hooks = sys.excepthook, sys.unraisablehook, threading.excepthook
    logging.captureWarnings(True)
    logger = logging.getLogger(__name__)
    sys.excepthook = lambda kind, error, trace: logger.critical("uncaught", exc_info=(kind, error, trace))
    sys.unraisablehook = lambda what: logger.error("uncaught in %r", what.object, exc_info=what.exc_value)
    threading.excepthook = lambda what: logger.error("uncaught in a thread", exc_info=what.exc_value)
    try:
        yield handler
    finally:
        sys.excepthook, sys.unraisablehook, threading.excepthook = hooks
        logging.captureWarnings(False)
        handler.close()
