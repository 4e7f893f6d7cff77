"""A network split over two processes computes what one process computes."""

import re

import pytest
import torch
import torch.distributed as distributed
import torch.multiprocessing as multiprocessing
from torch.distributed.device_mesh import init_device_mesh
from torch.multiprocessing.reductions import StorageWeakRef
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import remask
from remask.engine import Engine
from remask.models.fused import Fused
from remask.models.fused_model import FusedModel
from remask.models.guidance import Guided
from remask.models.parallel import tensor_parallel
from remask.models.quantised import fp8
from tests.networks import canvas, network

NETWORKS = {"llada": {}, "dream": {}, "grouped": {"vocab_size": 21, "mlp_hidden_size": 45}, "tied": {"weight_tying": True}, "biased": {"include_bias": True, "mlp_hidden_size": 1}}
"""Name -> changes: also matrices that do not divide evenly, a head that is the embedding, biases, and a feed-forward of which one process has nothing."""


class Eight(torch.Tensor):
    """As weights in float8 are: of a class of its own."""


def made(name):
    """The network of a name."""
    return network("llada" if name in ("tied", "biased") else name, **NETWORKS[name])


def results(model, captured=False):
    """Logits, and a decode over stored keys and values."""
    first = canvas()
    decoded = remask.Captured(model) if captured else model
    steps = list(remask.denoise(decoded, first, decoder=remask.Threshold(0.2), window=remask.Blocks(6), reuse=remask.Dual()))
    return model.logits(first.tokens, first.real), steps[-1].canvas.tokens, steps[-1].positions


def half(rank, folder):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    shares = {}
    for name in NETWORKS:
        model = tensor_parallel(made(name))
        shares[name] = (*results(model), results(model, captured=True)[1], sum(parameter.numel() for parameter in model.parameters()))
        for refuses, why in (
            (tensor_parallel, "over 2 processes already"),
            (Fused, "fused layers do not take"),
            (FusedModel, "fused layers do not take"),
            (fp8, "cannot be turned into float8"),
            (Engine, "admit rows each by its own memory"),
            (lambda model: Engine(Guided(model, 1.0)), "admit rows each by its own memory"),
            (lambda model: Engine(remask.Captured(model)), "admit rows each by its own memory"),
        ):
            with pytest.raises(remask.RemaskError, match=why):
                refuses(model)
    split_behind_fused_layers_or_captured()
    with pytest.raises(remask.RemaskError, match="MDLM cannot be split"):
        tensor_parallel(network("mdlm"))
    odd = network("dream", num_key_value_heads=1)
    before = [attention.heads for attention in (layer.self_attn for layer in odd.model["layers"])]
    with pytest.raises(remask.RemaskError, match="1 key heads do not divide over 2 processes"):
        tensor_parallel(odd)
    assert before == [layer.self_attn.heads for layer in odd.model["layers"]]
    eight = network("llada")
    last = eight.parts["blocks"][-1].ff_out
    last.weight = torch.nn.Parameter(last.weight.detach().as_subclass(Eight))
    with pytest.raises(remask.RemaskError, match="weights of Eight cannot be cut; leave out float8"):
        tensor_parallel(eight)
    assert isinstance(eight.parts["blocks"][0].ff_out, torch.nn.Linear)
    with pytest.raises(remask.RemaskError, match=r"mesh has 2 dimensions; pass one of them"):
        tensor_parallel(network("llada"), init_device_mesh("cpu", (1, 2)))
    lonely = init_device_mesh("cpu", (2, 1), mesh_dim_names=("rows", "shares"))["shares"]
    whole = network("llada")
    assert tensor_parallel(tensor_parallel(whole, lonely), lonely) is whole
    assert isinstance(whole.parts["ff_out"], torch.nn.Linear)
    torch.save(shares, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def split_behind_fused_layers_or_captured():
    """What was made of the whole network says so at its next use, whether it was used before or not."""
    first = canvas()
    for used in (False, True):
        for make, what in (
            (FusedModel, "its fused layers were"),
            (remask.Captured, "Captured(model) was"),
            (lambda model: remask.Captured(model, body=Fused(model)), "Captured(model) was"),
            (lambda model: remask.Captured(Guided(model, 1.0)), "Captured(model) was"),
            (lambda model: remask.Captured(FusedModel(model)), "Captured(model) was"),
        ):
            model = network("llada")
            whole = make(model)
            if used:
                list(remask.denoise(whole, first, decoder=remask.Threshold(0.2)))
            tensor_parallel(model)
            with pytest.raises(remask.RemaskError, match=re.escape(f"were split, moved, turned into float8 or put in anew after {what} made of them; make that again")):
                next(remask.denoise(whole, first, decoder=remask.Threshold(0.2)))
    model = network("llada")
    fused = FusedModel(model)
    tensor_parallel(model)
    with pytest.raises(remask.RemaskError, match="admit rows each by its own memory"):
        Engine(fused)
    with pytest.raises(remask.RemaskError, match="after its fused layers were made of them"):
        fused.logits(first.tokens)
    with pytest.raises(remask.RemaskError, match="after its fused layers were made of them"):
        next(remask.denoise(remask.Captured(fused), first, decoder=remask.Threshold(0.2)))


def test_two_processes_compute_what_one_does(tmp_path):
    multiprocessing.start_processes(half, (str(tmp_path),), nprocs=2, start_method="spawn")
    for rank in range(2):
        for name, (logits, tokens, positions, captured, held) in torch.load(tmp_path / f"{rank}.pt").items():
            model = made(name)
            expected, expected_tokens, expected_positions = results(model)
            torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
            assert torch.equal(tokens, expected_tokens)
            assert torch.equal(captured, expected_tokens)
            assert torch.equal(positions, expected_positions)
            assert held < 0.6 * sum(parameter.numel() for parameter in model.parameters())


class Peak(TorchDispatchMode):
    """most: bytes of memory on the device `meta` at once, so far, of what operations made there."""

    def __init__(self):
        super().__init__()
        self.most, self.made = 0, {}

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        out = function(*arguments, **(options or {}))
        for part in (each.untyped_storage() for each in tree_leaves(out) if isinstance(each, torch.Tensor) and each.is_meta):
            self.made[part._cdata] = StorageWeakRef(part), part.nbytes()
        self.made = {place: (ref, size) for place, (ref, size) in self.made.items() if not ref.expired()}
        self.most = max(self.most, sum(size for _, size in self.made.values()))
        return out


def held(tensors):
    """Bytes of memory behind tensors."""
    return sum({part._cdata: part.nbytes() for part in (each.untyped_storage() for each in tensors)}.values())


@pytest.fixture
def two_processes():
    """A group of two of which this is one, and nothing is sent: what a collective leaves is of the right shape, no more."""
    distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
    yield
    distributed.destroy_process_group()


@pytest.mark.usefixtures("two_processes")
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_on_the_cpu_is_split_onto_another_device_matrix_by_matrix(name):
    """`meta` stands for a GPU that has no room for the whole network."""
    model = made(name)
    whole, largest = held(model.parameters()), max(held([parameter]) for parameter in model.parameters())
    with Peak() as peak:
        split = tensor_parallel(model, init_device_mesh("meta", (2,)))
    assert split is model
    assert model.device.type == "meta"
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    share = held(model.parameters())
    assert share < 0.6 * whole
    assert share <= peak.most <= share + 2 * largest < whole


@pytest.mark.usefixtures("two_processes")
def test_a_share_of_one_process_is_on_the_meshs_device_too():
    mesh = init_device_mesh("meta", (2, 1), mesh_dim_names=("rows", "shares"))["shares"]
    model = tensor_parallel(network("llada"), mesh)
    assert model.processes == 1
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}


@pytest.mark.usefixtures("two_processes")
@pytest.mark.parametrize("processes", [1, 2])
def test_a_network_on_the_meshs_kind_of_device_stays_on_its_own_of_them(processes, monkeypatch):
    """`cuda` alone is the current device, which need not be the network's `cuda:1`."""
    model, moved = network("llada").to("meta"), []
    monkeypatch.setattr(torch.nn.Module, "to", lambda module, *where: moved.append(where) or module)
    mesh = init_device_mesh("meta", (2, 1), mesh_dim_names=("rows", "shares"))["shares"] if processes == 1 else init_device_mesh("meta", (2,))
    assert tensor_parallel(model, mesh).processes == processes
    assert not moved


def test_without_a_group_the_remedy_is_named():
    with pytest.raises(remask.RemaskError, match="torchrun"):
        tensor_parallel(network("llada"))
