"""Norm and rotary positions, bit by bit those of their formulas, however they are computed."""

import pytest
import torch
from torch.nn import functional

from remask.models.attention import RMSNorm, rotary, rotate


def formula(x, weight, eps):
    wide = x.float()
    wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    return weight * wide.to(x.dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1, 1, 32), (3, 7, 512), (2, 5, 96)])
def test_the_norm_and_the_one_that_a_gpu_is_given_round_before_the_weight(dtype, shape):
    chance = torch.Generator().manual_seed(0)
    x = (3 * torch.randn(*shape, generator=chance)).to(dtype)
    norm = RMSNorm(shape[-1], 1e-5).to(dtype)
    norm.weight.data = torch.randn(shape[-1], generator=chance).to(dtype)
    wanted = formula(x, norm.weight, norm.eps)
    assert torch.equal(norm(x), wanted)
    assert torch.equal(norm.weight * functional.rms_norm(x, x.shape[-1:], None, norm.eps), wanted)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_norm_on_a_gpu_is_the_formula_within_a_rounding():
    x = 3 * torch.randn(4, 33, 512, generator=torch.Generator().manual_seed(0)).cuda()
    for dtype, bound in ((torch.float32, 1e-6), (torch.bfloat16, 2**-7)):
        norm = RMSNorm(512, 1e-5).cuda().to(dtype)
        torch.testing.assert_close(norm(x.to(dtype)), formula(x.to(dtype), norm.weight, norm.eps), rtol=bound, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_pairs_are_turned_in_float32_and_rounded_once(dtype):
    x = torch.randn(3, 4, 9, 16, generator=torch.Generator().manual_seed(0)).to(dtype)
    cos, sin = rotary(torch.arange(9)[None], 16, 100.0)
    wide = x.float()
    turned = torch.cat([-wide[..., 8:], wide[..., :8]], -1)
    assert torch.equal(rotate(x, cos, sin), (wide * cos + turned * sin).to(dtype))
