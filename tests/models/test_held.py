"""What was made of a network's weights says so at its next use when they no longer lie there."""

import copy
import pickle
import re

import pytest
import torch
from torch.testing._internal.two_tensor import TwoTensor

import remask
from remask.models.fused import Fused
from remask.models.fused_model import FusedModel
from remask.models.guidance import Guided
from remask.models.held import places
from remask.models.parallel import SPLIT
from remask.models.store import Chosen, Memory
from remask.models.weights import place
from tests.networks import canvas, network


def in_eight_bits(model):
    """As torchao does: another tensor, of a class made of several, in the place of a weight."""
    for block in model.parts["blocks"]:
        for name in SPLIT[type(model)]:
            block.get_submodule(name).weight = torch.nn.Parameter(TwoTensor(*block.get_submodule(name).weight.detach().clone().expand(2, -1, -1)), requires_grad=False)


def put_in_anew(model):
    for name, tensor in network("llada", seed=1).state_dict().items():
        place(model, name, tensor)


def assigned(name):
    """One tensor alone put in anew."""

    def change(model):
        model.load_state_dict({name: network("llada", seed=1).state_dict()[name]}, assign=True, strict=False)

    return change


def another_module(model):
    block = network("llada", seed=1).parts["blocks"][1]
    model.parts["blocks"][1].ff_out = block.ff_out


HEAD = assigned("model.transformer.ff_out.weight")
CHANGES = {
    "float8": in_eight_bits,
    "put in anew": put_in_anew,
    "another type": lambda model: model.double(),
    "another device": lambda model: model.to("meta"),
    "head": HEAD,
    "embedding": assigned("model.transformer.wte.weight"),
    "last layer": assigned("model.transformer.blocks.2.attn_out.weight"),
    "another module": another_module,
}
MADE = {
    "fused": (FusedModel, "its fused layers were"),
    "captured": (remask.Captured, "Captured(model) was"),
    "captured fused": (lambda model: remask.Captured(model, body=Fused(model)), "Captured(model) was"),
    "captured guided": (lambda model: remask.Captured(Guided(model, 1.0)), "Captured(model) was"),
}


def decoded(model):
    return [step.canvas.tokens for step in remask.denoise(model, canvas(), decoder=remask.Threshold(0.2))][-1]


@pytest.mark.parametrize("used", [False, True])
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", MADE)
def test_weights_that_were_changed_behind_what_holds_them_are_noticed(kind, change, used):
    make, what = MADE[kind]
    model = network("llada")
    made = make(model)
    if used:
        decoded(made)
    CHANGES[change](model)
    with pytest.raises(remask.RemaskError, match=re.escape(f"put in anew after {what} made of them; make that again")):
        decoded(made)


def test_a_head_that_was_changed_is_noticed_by_passes_of_the_models_own_layers_too():
    model = network("llada")
    made, first = FusedModel(model), canvas()
    HEAD(model)
    with pytest.raises(remask.RemaskError, match="put in anew after its fused layers were made of them"):
        made.hidden(first.tokens, first.real, memory=Memory(Chosen(), None))


COPIES = {"deepcopy": copy.deepcopy, "pickle": lambda made: pickle.loads(pickle.dumps(made))}


@pytest.mark.parametrize("used", [False, True])
@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("kind", ["fused", "captured", "captured fused"])
def test_a_copy_decodes_and_is_made_of_weights_of_its_own(kind, way, used):
    """And shares memory with its own network, as what it was copied of does."""
    made, other = (MADE[kind][0](network("llada", seed=seed)) for seed in (0, 1))
    expected = decoded(made) if used else decoded(network("llada"))
    copied = COPIES[way](made)
    assert torch.equal(decoded(copied), expected)
    own = copied.own if kind == "fused" else copied.model
    own.load_state_dict(network("llada", seed=1).state_dict())
    assert torch.equal(decoded(copied), decoded(other))
    assert torch.equal(decoded(made), expected)
    HEAD(own)
    with pytest.raises(remask.RemaskError, match="make that again"):
        decoded(copied)
    assert torch.equal(decoded(made), expected)


def test_a_copy_of_a_captured_model_keeps_its_settings_and_records_anew():
    made = remask.Captured(network("llada"), graphs=5, sessions=2, sizes=3, lengths=4)
    decoded(made)
    copied = copy.deepcopy(made)
    assert (copied.recorder.most, copied.most_sessions, copied.sizes, copied.lengths) == (5, 2, 3, 4)
    assert not copied.sessions
    assert len(made.sessions) == 1


@pytest.mark.parametrize("kind", MADE)
def test_what_is_written_where_the_weights_lie_is_computed_with(kind):
    model = network("llada")
    made = MADE[kind][0](model)
    before = decoded(made)
    model.load_state_dict(network("llada", seed=1).state_dict())
    assert torch.equal(decoded(made), decoded(MADE[kind][0](network("llada", seed=1))))
    assert not torch.equal(decoded(made), before)


@pytest.mark.parametrize("family", ["llada", "dream"])
def test_fused_layers_that_are_made_twice_share_their_memory(family):
    model = network(family)
    first, second = FusedModel(model), Fused(model)
    for one, other in zip(first.layers.layers, second.layers, strict=True):
        assert (one.mix.data_ptr(), one.gate_up.data_ptr()) == (other.mix.data_ptr(), other.gate_up.data_ptr())
        assert torch.equal(one.mix, other.mix)
        assert (one.mix_bias is None) == (other.mix_bias is None) == (family == "llada")
        assert one.mix_bias is None or torch.equal(one.mix_bias, other.mix_bias)
    assert torch.equal(decoded(first), decoded(remask.Captured(model, body=second)))


def test_a_weight_made_of_several_tensors_is_where_these_are():
    """It keeps its identity when its network is moved, and they don't."""
    model = network("llada")
    in_eight_bits(model)
    linear = model.parts["blocks"][0].q_proj
    before = places(linear)
    assert len(before) == 2
    assert places(linear) == before
    model.double()
    assert places(linear) != before


@pytest.mark.parametrize("way", [copy.deepcopy, Fused.joined, Fused.compiled])
def test_a_copy_of_fused_layers_is_refused_like_new_ones_of_a_network_that_was_split_or_turned_since(way, monkeypatch):
    model = network("llada")
    made = Fused(model)
    monkeypatch.setattr(model, "processes", 2)
    with pytest.raises(remask.RemaskError, match="do not take a network split over 2 processes"):
        way(made)
    monkeypatch.setattr(model, "processes", 1)
    HEAD(model)
    assert torch.equal(way(made).head(torch.ones(1, 1, 32)), Fused(model).head(torch.ones(1, 1, 32)))
    in_eight_bits(model)
    with pytest.raises(remask.RemaskError, match="do not take weights of TwoTensor"):
        made.joined()


def test_weights_of_a_class_of_their_own_have_no_fused_layers():
    model = network("llada")
    in_eight_bits(model)
    with pytest.raises(remask.RemaskError, match="fused layers do not take weights of TwoTensor; leave out float8, or body= and fused"):
        Fused(model)
    remask.Captured(model).held.check()
