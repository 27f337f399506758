"""SIGTERM and SIGINT ask the loop to save at the next step; a second SIGINT ends at once."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from types import FrameType

EXIT_CODES = {signal.SIGTERM: 75, signal.SIGINT: 130}  # 75: EX_TEMPFAIL, come again; 130: the shell's for Ctrl-C


class StopRequest:
    """What the handlers leave for the loop to see; no work is done inside a handler."""

    exit_code: int | None = None


@contextmanager
def watched_signals() -> Iterator[StopRequest]:
    """Yield the request that SIGTERM or SIGINT fill in; the earlier handlers come back afterwards."""
    request = StopRequest()

    def handler(number: int, _: FrameType | None) -> None:
        if request.exit_code is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        request.exit_code = EXIT_CODES[signal.Signals(number)]

    if current_thread() is not main_thread():  # handlers may be set in the main thread only
        yield request
        return
    earlier = {number: signal.signal(number, handler) for number in EXIT_CODES}
    try:
        yield request
    finally:
        for number, previous in earlier.items():
            signal.signal(number, previous)
