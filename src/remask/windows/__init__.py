"""The registered windows: name -> class."""

from remask.windows.base import Window
from remask.windows.blocks import Blocks
from remask.windows.daedal import DAEDAL
from remask.windows.whole import Whole

WINDOWS: dict[str, type[Window]] = {
    "whole": Whole,
    "blocks": Blocks,
    "daedal": DAEDAL,
}

__all__ = ["DAEDAL", "Blocks", "Whole", "Window"]
