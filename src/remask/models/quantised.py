"""Weights in 8-bit floating point, by torchao (the extra `fp8`)."""

from __future__ import annotations

from torch import nn

from remask.errors import RemaskError
from remask.models.base import Network


def fp8(model: Network) -> Network:
    """The same network with the matrices of its layers in float8 (e4m3), scaled by row, activations scaled as they come; changed in place.

    What was made of its weights before, fused layers or a Captured, is refused from then on, so record it afterwards: Captured(fp8(model)).
    Embedding and head stay: the head's logits decide. Needs a GPU of compute capability 8.9 or more. Not measured by us yet. The fused layers don't take it.
    """
    if not isinstance(model, Network):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise RemaskError(f"float8 is for a network itself, not for {type(model).__name__}; put that around it afterwards: Captured(fp8(model))")
    if model.recorded is not None:
        raise RemaskError("fused layers do not take float8; load the network without fused, or leave out float8")
    if model.processes > 1:
        raise RemaskError(f"a network split over {model.processes} processes cannot be turned into float8; leave out one of the two")
    try:
        from torchao.quantization import Float8DynamicActivationFloat8WeightConfig, PerRow, quantize_  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise RemaskError("float8 weights need torchao; pip install 'remask[fp8]', or load with dtype='bfloat16'") from None

    def in_a_layer(module: nn.Module, name: str) -> bool:
        return isinstance(module, nn.Linear) and module.out_features != model.vocab_size

    quantize_(model, Float8DynamicActivationFloat8WeightConfig(granularity=PerRow()), filter_fn=in_a_layer)
    return model
