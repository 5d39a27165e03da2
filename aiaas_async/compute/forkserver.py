"""The fork server: a small process with numpy imported once, which forks workers on request.

Fork to ready takes 9 ms against 173 ms for a fresh interpreter. Its chain of life: it exits when
the server's socket closes; each worker is killed by the kernel (PR_SET_PDEATHSIG) when the fork
server is gone. So a SIGKILL of the server leaves no process behind.

Requests are JSON datagrams `{"fork": {nice, memory_limit}}` with the worker's descriptors attached
(its socket, then its slots); the answer `{"pid": …}` carries a pidfd, which unlike a number can
never come to mean another process. `{"ended": pid, "status": …}` tells a worker's end, negative
for a signal.

Which runtimes the operator named is an argument of the process: no request can add one.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import logging
import os
import resource
import select
import signal
import socket
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

from aiaas_async.compute import worker  # imports numpy, once: the point of this process

logger = logging.getLogger(__name__)

DESCRIPTORS_PER_WORKER = 5  # a socket, two request slots, two reply slots
_PR_SET_PDEATHSIG = 1
_LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s [worker %(process)d]: %(message)s"


def main(control_fd: int, targets: Mapping[str, str]) -> int:
    """Serve fork requests on `control_fd` until its other end closes."""
    logging.basicConfig(format=_LOG_FORMAT)
    _ignore_signals_of_the_terminal()
    worker.preload()
    control = socket.socket(fileno=control_fd)
    wake_read, wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    try:
        control.send(b'{"ready": true}')
    except BrokenPipeError:  # Ctrl-C in the server's first second
        return 0
    poller = select.poll()
    poller.register(control.fileno(), select.POLLIN)
    poller.register(wake_read, select.POLLIN)
    while True:
        for fd, _ in poller.poll():
            if fd == wake_read:
                _drain(wake_read)
                _reap(control)
            elif not _serve(control, (wake_read, wake_write), targets):
                return 0


def _serve(control: socket.socket, ours: tuple[int, int], targets: Mapping[str, str]) -> bool:
    """Answer one request; False when the server has gone."""
    try:
        message, fds, _, _ = socket.recv_fds(control, 65536, DESCRIPTORS_PER_WORKER)
    except ConnectionResetError:  # it went before it read that we are ready
        return False
    if not message:
        return False
    try:
        pid, pidfd = _fork(control, ours, list(fds), json.loads(message)["fork"], targets)
    except OSError as error:
        control.send(json.dumps({"error": error.strerror}).encode())
    else:
        socket.send_fds(control, [json.dumps({"pid": pid}).encode()], [pidfd])
        os.close(pidfd)
    finally:
        for fd in fds:
            os.close(fd)
    return True


def _fork(
    control: socket.socket,
    ours: tuple[int, int],
    fds: list[int],
    options: dict[str, Any],
    targets: Mapping[str, str],
) -> tuple[int, int]:
    """A new worker's pid and pidfd. Raises `OSError`."""
    if len(fds) != DESCRIPTORS_PER_WORKER:  # the kernel drops what does not fit our table
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    pid = os.fork()
    if pid == 0:
        _become_worker(control, ours, fds, options, targets)
    try:
        # The child is reaped by this same thread, later: until then the pid means it.
        return pid, os.pidfd_open(pid)
    except OSError:
        os.kill(pid, signal.SIGKILL)
        raise


def _become_worker(
    control: socket.socket,
    ours: tuple[int, int],
    fds: list[int],
    options: dict[str, Any],
    targets: Mapping[str, str],
) -> NoReturn:
    code = 1
    try:
        parent = os.getppid()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        die_with_parent()
        if os.getppid() != parent:  # the parent died before the kernel knew our wish
            os._exit(1)
        control.close()
        for fd in ours:
            os.close(fd)
        if options.get("nice"):
            os.nice(int(options["nice"]))
        if options.get("memory_limit"):
            limit = int(options["memory_limit"])
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        worker.run(fds, targets)
        code = 0
    except BaseException:
        # In one write, as every line of a log that others write to as well.
        logger.critical("the worker ends", exc_info=True)
    finally:
        # Not sys.exit: a forked child must not run the fork server's clean-up.
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()
        os._exit(code)


def _reap(control: socket.socket) -> None:
    """Bury the dead, and tell how each ended: that it did, the server sees by its socket."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        ended = {"ended": pid, "status": os.waitstatus_to_exitcode(status)}
        with contextlib.suppress(OSError):  # the server is gone
            control.send(json.dumps(ended).encode())


def _drain(fd: int) -> None:
    with contextlib.suppress(BlockingIOError):
        while os.read(fd, 4096):
            pass


def _ignore_signals_of_the_terminal() -> None:
    """Ctrl-C and a service manager's SIGTERM go to the whole group; only the server obeys."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def die_with_parent() -> None:
    """Ask the kernel for SIGKILL when the parent ends (Linux prctl(2))."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), json.loads(sys.argv[2])))
