"""SIGTERM and SIGINT as an event: the first signal requests a stop, the second one ends the process."""

import logging
import os
import signal
import socket
import threading

from informers import Stop

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT)


def stop_on_signals() -> Stop:
    """Return a stop that the first signal sets. The second signal ends the process with status 1.

    Call it once, in the main thread (else ValueError), before anything that has to be stopped (controller-runtime:
    SetupSignalHandler).

    The handlers themselves do nothing, because they may interrupt the main thread while it holds the lock of the event
    that they would set. Python writes the signal's number to a socket, and a thread reads it there.
    """
    stop = Stop()
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    for number in SIGNALS:
        signal.signal(number, lambda *_: None)
    signal.set_wakeup_fd(writer.fileno())
    # The thread keeps a reference to the writer. If the garbage collector closed it, its number could be reused.
    threading.Thread(target=_watch, args=(reader, writer, stop), name="signals", daemon=True).start()
    return stop


def _watch(reader: socket.socket, _writer: socket.socket, stop: Stop) -> None:
    try:
        while number := reader.recv(1):
            if number[0] not in SIGNALS:
                continue
            name = signal.Signals(number[0]).name
            if stop.is_set():
                log.error("Received a second signal, exiting", extra={"signal": name})
                os._exit(1)
            log.info("Stopping", extra={"signal": name})
            stop.set()
    except BaseException:
        # The next signal would be lost, so stop at once.
        log.exception("Cannot receive signals any more, stopping")
        stop.set()
        raise
