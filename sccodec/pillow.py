"""`import sccodec.pillow` lets Pillow open and save .scc files."""

from sccodec.plugins.pillow import SccImageFile, register

__all__ = ["SccImageFile"]

register()
