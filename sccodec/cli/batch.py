"""One or many files through one command: results in order, one failure does not stop the rest."""

from __future__ import annotations

import functools
import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field

import click

from sccodec.cli import border
from sccodec.errors import BadRequest, CodecError, LimitExceeded, shown
from sccodec.threads import cores, processes

MOST_THREADS = 8  # unless more are asked for
AHEAD = 8  # files per thread that are begun or finished before the first of them is reported


@dataclass
class Job:
    """One input, what it becomes, and what people should know of the way there."""

    source: str
    targets: tuple[str, ...] = ()
    threads: int = 1  # for the tiles of a picture
    tensor_threads: int = 1  # for tensors, whose steps are too short for threads to gain
    alone: bool = True
    notes: list[str] = field(default_factory=list)

    @property
    def target(self) -> str:
        return self.targets[0]

    @property
    def progress(self) -> Callable[[int, int], None] | None:
        """Shows the tiles of this file, unless others are worked on at the same time."""
        return border.progress(shown(self.source)) if self.alone else None

    def note(self, text: str) -> None:
        """One line for stderr, said when this file's turn comes."""
        self.notes.append(f"sccodec: {text}")


@dataclass
class Done:
    """What became of a job: facts for --json, text for people, an exit code."""

    facts: dict
    text: str = ""
    code: int = 0
    error: CodecError | OSError | MemoryError | None = None


def options(function: Callable) -> Callable:
    """Options of every command that turns files into files."""
    for option in (
        border.json_option,
        click.option("--keep-tree", is_flag=True, help="In OUT/, keep the folders of inputs."),
        click.option(
            "--skip-existing", is_flag=True, help="Leave out inputs whose output is there."
        ),
        border.force_option,
    ):
        function = option(function)
    return function


def run(
    tasks: list[tuple[str, ...]],
    work: Callable[[Job], Done],
    *,
    jobs: int = 0,
    as_json: bool = False,
    force: bool = False,
    skip_existing: bool = False,
    report: bool = False,
    apart: bool = False,
) -> list[int]:
    """work(job) for each (input, outputs...), on `jobs` threads: their exit codes, in order.

    At most `jobs` files are worked on at once; threads that are left over go to their tiles. 0
    stands for one file at a time, on all cores. With `apart`, for work that threads would take
    turns at, several files have processes of their own, unless one of them is a stream; `work` can
    be pickled then.
    With `report` the texts are what was asked for and go to stdout; else they are progress.
    """
    if as_json and any(border.STREAM in targets for _, *targets in tasks):
        raise BadRequest("--json and the file itself cannot both go to stdout")
    if force and skip_existing:
        raise BadRequest("--force and --skip-existing exclude each other")
    if not tasks:
        border.say("sccodec: no files in the list, nothing to do")
    workers = max(1, min(jobs, len(tasks)))
    threads = [(jobs or most) // workers for most in (min(cores(), MOST_THREADS), 1)]
    todo = [Job(s, tuple(t), *threads, workers == 1) for s, *t in tasks]

    attempt = functools.partial(_attempt, work, force, skip_existing)
    apart = apart and not any(border.STREAM in task for task in tasks)
    codes = []
    with closing(_in_order(attempt, todo, workers, apart)) as results:
        for job, done in results:
            codes.append(done.code)
            place = "" if report or len(todo) == 1 else f"[{len(codes)}/{len(todo)}] "
            where = _where(job, done.error) if done.error and len(todo) > 1 else ""
            _tell(job, done, place, where, as_json, report)
    failed = sum(map(bool, codes))
    if failed and len(codes) > 1:
        border.say(f"sccodec: {failed} of {len(codes)} failed")
    return codes


def _attempt(work: Callable[[Job], Done], force: bool, skip_existing: bool, job: Job):
    """The job, as it is after the work, and what became of it."""
    try:
        return job, _existing(job, force, skip_existing) or work(job)
    except BrokenPipeError:
        raise
    except (CodecError, OSError, MemoryError) as error:
        message, code = border.explain(error)
        facts = {"input": job.source, "error": message, "code": code}
        return job, Done(facts, code=code, error=error)


def first(codes: list[int]) -> int:
    """The exit code of a batch: that of the first failure, or 0."""
    return next((code for code in codes if code), 0)


def _existing(job: Job, force: bool, skip_existing: bool) -> Done | None:
    """The result, if what is there already decides; before the work, since files look again."""
    there = [t for t in job.targets if t != border.STREAM and os.path.isfile(t)]
    if skip_existing and there and len(there) == len(job.targets):
        facts = {"input": job.source, "output": job.target, "skipped": True}
        return Done(facts, f"{job.source} -> {job.target}: skipped, it exists")
    if there and not force and not skip_existing:
        raise BadRequest(f"{there[0]} exists", hint="--force replaces it")
    return None


def _tell(job: Job, done: Done, place: str, where: str, as_json: bool, report: bool) -> None:
    for note in job.notes:
        border.say(note)
    if done.error is not None:
        border.complain(done.error, where)
    elif not as_json:
        click.echo(done.text) if report else border.say(place + done.text)
    if as_json:
        click.echo(json.dumps(done.facts))


def _where(job: Job, error: CodecError | OSError | MemoryError) -> str:
    """The input of one of many jobs, if an error does not say which file it is about."""
    message, _ = border.explain(error)
    named = any(name in message for name in (job.source, *job.targets))
    return "" if named or job.source == border.STREAM else f"{job.source}: "


def _in_order(work: Callable, items: Iterable, workers: int, apart: bool) -> Iterator:
    """work(item) for each item in turn; `workers` at a time, and no list of them all."""
    if workers == 1:
        yield from map(work, items)
        return
    waiting: deque = deque()
    pool, begun = _pool(work, workers, apart)
    with pool:
        try:
            for item in items:
                if len(waiting) == AHEAD * workers:
                    yield waiting.popleft().result()
                waiting.append(pool.submit(begun, item))
            while waiting:
                yield waiting.popleft().result()
        except BrokenExecutor:
            raise LimitExceeded(
                "a process that worked on these files was killed",
                hint="if it was for want of memory, fewer at a time (-j) take less",
            ) from None
        finally:  # interrupted: those begun are finished, the others never are
            pool.shutdown(cancel_futures=True)


def _pool(work: Callable, workers: int, apart: bool):
    """Threads or processes, and what they do with an item."""
    if apart:
        try:
            return processes(workers, _Process.begin, work), _Process.go_on
        except (ImportError, OSError) as error:  # as where there is no shared memory
            border.say(
                f"sccodec: no processes of their own for files ({error}): threads take turns"
            )
    return ThreadPoolExecutor(workers), work


class _Process:
    """One process of a batch, which is told its work once."""

    work: Callable | None = None

    @classmethod
    def begin(cls, work: Callable) -> None:
        cls.work = work

    @classmethod
    def go_on(cls, item):
        return cls.work(item)
