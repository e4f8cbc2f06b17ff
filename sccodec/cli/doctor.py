"""sccodec doctor"""

from __future__ import annotations

import json

import click

from sccodec.cli import border


@click.command("doctor")
@border.json_option
@border.border
def command(as_json):
    """Say whether this machine decodes like every other.

    Runs bundled vectors, which takes seconds, and names each part that differs; exit code 3 if
    any does.
    """
    from sccodec.codecs import doctor

    versions, checks = doctor.versions(), doctor.examine()
    well = all(check.ok for check in checks)
    if as_json:
        rows = [{"part": c.part, "ok": c.ok, "seen": c.seen} for c in checks]
        click.echo(json.dumps({"ok": well, "versions": versions, "checks": rows}))
        return 0 if well else 3
    click.echo(", ".join(f"{name} {version}" for name, version in versions.items()))
    for check in checks:
        click.echo(f"{'ok' if check.ok else 'DIFFERS':<8}{check.part}: {check.seen}")
    if versions["constriction"] == "missing":
        click.echo("constriction is missing: decoding works, but slowly")
    click.echo(
        "this machine decodes like every other"
        if well
        else "this machine computes differently: do not trust what it encodes or decodes"
    )
    return 0 if well else 3
