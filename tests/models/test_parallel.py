"""A network split over two processes computes what one process computes."""

import pytest
import torch
import torch.distributed as distributed
import torch.multiprocessing as multiprocessing

import remask
from tests.networks import canvas, network


def results(model):
    """Logits, and a decode over stored keys and values."""
    first = canvas()
    steps = list(remask.denoise(model, first, decoder=remask.Threshold(0.2), window=remask.Blocks(6), reuse=remask.Dual()))
    return model.logits(first.tokens, first.real), steps[-1].canvas.tokens, steps[-1].positions


def half(rank, folder):
    from remask.models.parallel import tensor_parallel

    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    made = {}
    for family in ("llada", "dream"):
        model = tensor_parallel(network(family))
        made[family] = (*results(model), sum(parameter.to_local().numel() for parameter in model.parameters() if hasattr(parameter, "to_local")))
    with pytest.raises(remask.RemaskError, match="MDLM cannot be split"):
        tensor_parallel(network("mdlm"))
    torch.save(made, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def test_two_processes_compute_what_one_does(tmp_path):
    multiprocessing.start_processes(half, (str(tmp_path),), nprocs=2, start_method="spawn")
    for rank in range(2):
        made = torch.load(tmp_path / f"{rank}.pt")
        for family, (logits, tokens, positions, held) in made.items():
            model = network(family)
            expected, expected_tokens, expected_positions = results(model)
            torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
            assert torch.equal(tokens, expected_tokens)
            assert torch.equal(positions, expected_positions)
            assert held < 0.6 * sum(parameter.numel() for parameter in model.parameters())


def test_without_a_group_the_remedy_is_named():
    from remask.models.parallel import tensor_parallel

    with pytest.raises(remask.RemaskError, match="torchrun"):
        tensor_parallel(network("llada"))
