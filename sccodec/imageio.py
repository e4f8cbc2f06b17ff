"""`import sccodec.imageio` lets imageio read and write .scc files."""

from sccodec.plugins.imageio import SccPlugin, register

__all__ = ["SccPlugin"]

register()
