"""Work on several threads, with results in the order of the items, or in several processes."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor

TOLD = ("SIGTERM", "SIGHUP")  # signals that ask a process to stop
Progress = Callable[[int, int], None]  # told (items done, items in all)


def cores() -> int:
    """How many this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def each(work: Callable, items: Iterable, jobs: int, progress: Progress | None = None) -> list:
    """[work(item) for item in items], on `jobs` threads, in the order of the items."""
    items, results = list(items), []

    def collect(finished: Iterable) -> list:
        for result in finished:
            results.append(result)
            if progress is not None:
                progress(len(results), len(items))
        return results

    if jobs <= 1 or len(items) <= 1:
        return collect(map(work, items))
    with ThreadPoolExecutor(jobs) as pool:
        return collect(pool.map(work, items))


def at_once(work: Callable, items: Iterable) -> list:
    """[work(item) for item in items], each on a thread of its own as far as there are cores.

    For short work, which must not call this itself: the first item is done here, the others on
    threads that stay, since new ones would begin with cold memory.
    """
    items = list(items)
    started = [_helpers().submit(work, item) for item in items[1:]]
    return [*map(work, items[:1]), *(one.result() for one in started)]


@functools.cache
def _helpers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(cores())


if hasattr(os, "register_at_fork"):  # threads do not live on in a child
    os.register_at_fork(after_in_child=_helpers.cache_clear)


def ahead(work: Callable) -> None:
    """Begins work() on another thread, for what it leaves behind: a cache that is filled.

    Whoever needs that finds it, waits for it or does the work again, and so meets its errors.
    """

    def quietly() -> None:
        with contextlib.suppress(Exception):
            work()

    # No daemon: native code that comes back when the interpreter is gone ends in an abort.
    threading.Thread(target=quietly).start()


def share(jobs: int, items: int) -> int:
    """Threads that work on each of some items may have, where `each` has `jobs` for them."""
    return max(jobs // max(items, 1), 1)


def processes(jobs: int, begin: Callable | None = None, *told) -> ProcessPoolExecutor:
    """A pool of new processes, in each of which begin(*told) comes first.

    They leave Ctrl-C, which reaches the whole group, to the process that made them. Raises OSError
    or ImportError where the system has nothing for processes to share.
    """
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    class Pool(ProcessPoolExecutor):
        def submit(self, *work, **named):  # which starts processes as they are needed
            with _signals_held():
                return super().submit(*work, **named)

    # Not forked: that is not safe beside the threads that libraries may have.
    context = multiprocessing.get_context("spawn")
    with _signals_held():
        return Pool(jobs, context, _begun, (begin, told))


HELD = [getattr(signal, name) for name in ("SIGINT", *TOLD) if hasattr(signal, name)]


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """What tells this process to stop waits meanwhile. Processes that begin now hold it until they
    are ready for it, since a half-imported one would only have a traceback to say."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begun(begin: Callable | None, told: tuple) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    exit_when_told()
    if hasattr(signal, "pthread_sigmask"):
        pending = signal.sigpending().intersection(HELD)
        # What is ignored, as SIGHUP under nohup, waits like all else.
        if stop := {n for n in pending if signal.getsignal(n) is not signal.SIG_IGN}:
            os._exit(128 + min(stop))  # there is nothing yet to be left behind
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if begin is not None:
        begin(*told)


def _end_with_parent() -> None:
    """Where the process that made this one was killed, and can tell nobody, this one ends too."""
    import multiprocessing

    multiprocessing.parent_process().join()
    while True:  # first what is being worked on, then the wait for more
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.5)


def exit_when_told() -> None:
    """Told to stop, this process ends by an exception, and takes what is half-written with it."""
    for name in TOLD:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _exit)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """What is told to this process to stop waits until the block has ended; the second time it does
    not."""
    told, before = [], {}

    def wait(number: int, frame) -> None:
        told.append(number)
        signal.signal(number, before[number])

    if threading.current_thread() is threading.main_thread():
        for number in HELD:
            if callable(signal.getsignal(number)):
                before[number] = signal.signal(number, wait)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if told:
            signal.raise_signal(told[0])


def _exit(number: int, _frame) -> None:
    sys.exit(128 + number)
