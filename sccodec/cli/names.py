"""The inputs that a command is given, one by one or as a list, and where each result goes."""

from __future__ import annotations

import functools
import os
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import click

from sccodec.cli.border import STREAM, read_input
from sccodec.container.remote import is_url, refuse_secret
from sccodec.errors import BadRequest, shown

SEPARATORS = (os.sep, os.altsep or os.sep)  # Windows takes both


class Inputs(NamedTuple):
    """What a command works on; `listed` if --files-from was given, whatever the list holds."""

    names: tuple[str, ...]
    listed: bool = False

    @property
    def many(self) -> bool:
        return self.listed or len(self.names) > 1


def inputs(function: Callable) -> Callable:
    """Gives a command IN..., --files-from and -0, and calls it with `inputs` as Inputs."""

    @click.argument("inputs", nargs=-1, metavar="IN...")
    @click.option("-0", "--null", is_flag=True, help="Names in the list end with NUL.")
    @click.option("--files-from", metavar="LIST", help="More inputs, a name a line; - for stdin.")
    @functools.wraps(function)
    def command(inputs, files_from, null, **options):
        if null and files_from is None:
            raise BadRequest("-0 needs --files-from")
        if not inputs and files_from is None:
            raise click.MissingParameter(
                ctx=click.get_current_context(), param_hint="'IN...'", param_type="argument"
            )
        if (*inputs, files_from).count(STREAM) > 1:
            raise BadRequest("only one input can be stdin")
        more = () if files_from is None else read_list(files_from, null)
        for name in (*inputs, *more):
            refuse_secret(name)  # here, before a message or a row names it
        return function(inputs=Inputs((*inputs, *more), files_from is not None), **options)

    return command


def read_list(name: str, null: bool) -> list[str]:
    """The names in a list; empty lines do not count. There `-` is a file of that name."""
    raw = read_input(name)
    if null:
        parts = raw.split(b"\0")
    elif b"\0" in raw:
        raise BadRequest(
            "the list of files holds NUL characters", hint="-0 reads names that end with NUL"
        )
    else:
        parts = [line.removesuffix(b"\r") for line in raw.split(b"\n")]
    names = [os.fsdecode(part) for part in parts if part]
    return [os.path.join(os.curdir, STREAM) if name == STREAM else name for name in names]


def is_folder(name: str | None) -> bool:
    return name is not None and (name.endswith(SEPARATORS) or os.path.isdir(name))


def outputs(inputs: Inputs, output: str | None, suffix: str, keep_tree: bool = False) -> list[str]:
    """Where each input goes: FILE or `-` for one input, DIR/ for several, beside it without -o.

    Raises BadRequest if two inputs would share an output, or several were given one file.
    """
    folder, names = is_folder(output), inputs.names
    if keep_tree and not folder:
        raise BadRequest("--keep-tree needs a folder", hint="-o FOLDER/ names one")
    if folder and STREAM in names:
        raise BadRequest("stdin has no name for a file in a folder", hint="-o FILE gives one")
    if output is not None and not folder:
        if inputs.many:
            what = f"{len(names)} inputs" if len(names) > 1 else "the files of a list"
            raise BadRequest(
                f"{what} cannot go to one file {output}",
                hint=f"-o {output}{os.sep} makes it a folder",
            )
        return [output]
    found = [STREAM if n == STREAM else _output(n, output, suffix, keep_tree) for n in names]
    if twins := _twins(found):
        hint = "--keep-tree keeps folders apart" if folder and not keep_tree else None
        raise BadRequest(f"several inputs would become {shown(min(twins))}", hint=hint)
    if folder:
        for parent in {os.path.dirname(name) for name in found} | {output}:
            Path(parent).mkdir(parents=True, exist_ok=True)
    return found


def _output(name: str, folder: str | None, suffix: str, keep_tree: bool) -> str:
    """What one input becomes, beside it or in a folder."""
    local = _name_in_address(name) if is_url(name) else name
    stem = os.path.splitext(local.rstrip("".join(SEPARATORS)))[0]
    if folder is None:
        return stem + suffix
    if not keep_tree:
        return os.path.join(folder, os.path.basename(stem) + suffix)
    inner = os.path.normpath(os.path.splitdrive(stem)[1]).lstrip(os.sep)
    if inner.split(os.sep)[0] == os.pardir:
        raise BadRequest(f"{name} lies above the current folder, so it has no place in a tree")
    return os.path.join(folder, inner + suffix)


def distinct(tasks: Iterable[tuple[str, ...]], options: str) -> list[tuple[str, ...]]:
    """The tasks (input, outputs...) of a command that writes several files for each input, as
    `options` name them.

    Raises BadRequest if a file would be written twice.
    """
    tasks = list(tasks)
    for _, *targets in tasks:
        if twins := _twins(targets):
            raise BadRequest(f"{options} both name {shown(twins[0])}")
    twins = _twins([target for _, *targets in tasks for target in targets])
    if twins:
        raise BadRequest(f"{shown(min(twins))} would be written twice")
    return tasks


def _twins(names: list[str]) -> list[str]:
    """Those that are one file, however they spell it."""
    places = [n if n == STREAM else os.path.normcase(os.path.realpath(n)) for n in names]
    counts = Counter(places)
    return [name for name, place in zip(names, places, strict=True) if counts[place] > 1]


def _name_in_address(url: str) -> str:
    """What a browser would call the file, for an output in the current folder."""
    from urllib.parse import unquote, urlsplit

    try:
        name = os.path.basename(unquote(urlsplit(url).path))
    except ValueError as error:
        raise BadRequest(f"{url}: {str(error).lower()}") from None
    if not name or name.startswith(".") or "\0" in name:
        raise BadRequest(f"{url} holds no name for a file", hint="-o FILE gives one")
    return name
