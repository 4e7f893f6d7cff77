"""Float8 by torchao: refused where it is not installed, and given the layers alone where it is."""

import sys
import types

import pytest
import torch

import remask
from remask.models.fused_model import FusedModel
from remask.models.quantised import fp8
from tests.networks import canvas, network


def test_without_torchao_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    with pytest.raises(remask.RemaskError, match="remask\\[fp8\\]"):
        fp8(network("llada"))


def test_fused_layers_are_refused(monkeypatch):
    """Their joined matrices would stay as they are, and only the network's own, which they do not read, would be changed."""
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    with pytest.raises(remask.RemaskError, match="fused layers do not take float8; load the network without fused"):
        fp8(FusedModel(network("llada")))


@pytest.mark.parametrize("make", [remask.Captured, FusedModel])
def test_a_network_in_float8_is_recorded_and_what_was_made_before_it_is_refused(monkeypatch, make):
    """The double puts weights of the same numbers in the places of those that torchao would change."""

    def quantize_(model, config, filter_fn):
        for module in [module for name, module in model.named_modules() if filter_fn(module, name)]:
            module.weight = torch.nn.Parameter(module.weight.detach().clone(), requires_grad=False)

    double = types.SimpleNamespace(Float8DynamicActivationFloat8WeightConfig=lambda granularity: granularity, PerRow=lambda: None, quantize_=quantize_)
    monkeypatch.setitem(sys.modules, "torchao", types.ModuleType("torchao"))
    monkeypatch.setitem(sys.modules, "torchao.quantization", double)
    model, first = network("llada"), canvas()
    before = make(model)
    after = remask.Captured(fp8(model))
    expected, found = (list(remask.denoise(one, first, decoder=remask.Threshold(0.2)))[-1].canvas.tokens for one in (network("llada"), after))
    assert torch.equal(found, expected)
    with pytest.raises(remask.RemaskError, match="were split, moved, turned into float8 or put in anew after"):
        next(remask.denoise(before, first, decoder=remask.Threshold(0.2)))


def test_what_records_a_network_is_put_around_it_afterwards(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    with pytest.raises(remask.RemaskError, match=r"float8 is for a network itself, not for Captured; put that around it afterwards: Captured\(fp8\(model\)\)"):
        fp8(remask.Captured(network("llada")))


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
