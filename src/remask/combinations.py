"""Which decoders and reuse rules must not be combined, and why."""

from __future__ import annotations

from remask.decoders.base import Decoder
from remask.errors import RemaskError
from remask.reuse.base import Reuse


def check_combination(decoder: Decoder, reuse: Reuse) -> None:
    """Raise for a reviser under a rule that is there for parity with loops that never revise.

    Every other pair is served correctly: what was edited is computed next, a block that holds a mask again opens again (with a full pass, where the rule makes
    one), and a decoder that `rescores` gets fresh beliefs of the written positions of its block.
    """
    if decoder.revises and reuse.stale:
        raise RemaskError(f"{decoder!r} revises tokens, and {reuse!r} keeps keys and values of masks below written ones; use safe=true")
    if decoder.revises and reuse.lone:
        raise RemaskError(f"{decoder!r} revises tokens, and {reuse!r} does not predict a block's first one again; use compat_first_token=false")
