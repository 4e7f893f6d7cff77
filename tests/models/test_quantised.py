"""Float8 by torchao: refused where it is not installed, and given the layers alone where it is."""

import sys
import types

import pytest

import remask
from remask.models.fused_model import FusedModel
from remask.models.quantised import fp8
from tests.networks import network


def test_without_torchao_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    with pytest.raises(remask.RemaskError, match="remask\\[fp8\\]"):
        fp8(network("llada"))


def test_fused_layers_are_refused(monkeypatch):
    """Their joined matrices would stay as they are, and only the network's own, which they do not read, would be changed."""
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    with pytest.raises(remask.RemaskError, match="fused layers do not take float8; load the network without fused"):
        fp8(FusedModel(network("llada")))


@pytest.mark.parametrize(("family", "layers"), [("llada", 3 * 7), ("dream", 3 * 7)])
def test_the_head_is_left_alone(monkeypatch, family, layers):
    chosen = []
    double = types.SimpleNamespace(
        Float8DynamicActivationFloat8WeightConfig=lambda granularity: granularity,
        PerRow=lambda: "by row",
        quantize_=lambda model, config, filter_fn: chosen.extend((config, name) for name, module in model.named_modules() if filter_fn(module, name)),
    )
    monkeypatch.setitem(sys.modules, "torchao", types.ModuleType("torchao"))
    monkeypatch.setitem(sys.modules, "torchao.quantization", double)
    model = network(family)
    assert fp8(model) is model
    assert len(chosen) == layers
    assert all(config == "by row" and ("blocks" in name or "layers" in name) for config, name in chosen)
