"""Optional parts of the installation, which some jobs need and most do not."""

from __future__ import annotations

import importlib

from sccodec.errors import BadRequest


def need(what: str, extra: str, *modules: str) -> None:
    """Raises BadRequest, with the cure, if `what` lacks one of the modules that `extra` brings."""
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError:
            raise BadRequest(
                f"{what} needs {module}, which is not installed",
                hint=f"pip install 'sccodec[{extra}]'",
            ) from None
