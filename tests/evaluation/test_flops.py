"""The formula against SureLock's published table, and the shapes of the families."""

import pytest

from remask.evaluation.flops import Shape
from remask.evaluation.reuse import flips

LLADA_8B = {"d_model": 4096, "n_layers": 32, "n_heads": 32, "n_kv_heads": 32, "mlp_hidden_size": 12288}
TABLE = {(64, 32): 448_824_082_432, (64, 64): 897_648_164_864, (128, 64): 899_795_648_512, (128, 128): 1_799_591_297_024,
         (256, 128): 1_808_181_231_616, (256, 256): 3_616_362_463_232, (512, 256): 3_650_722_201_600, (512, 512): 7_301_444_403_200}  # fmt: skip


@pytest.mark.parametrize(("new", "steps"), list(TABLE))
def test_the_published_table(new, steps):
    """arXiv 2602.06412, Table 2: per position, prompts of 64 tokens."""
    assert steps * Shape.of(LLADA_8B).of_position(64 + new) == TABLE[new, steps]


def test_grouped_heads_and_plain_feed_forwards_cost_less():
    dream = Shape.of({"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 96})
    assert dream.linear == 2 * (2 * 64 * 64 + 2 * 64 * 64 + 2 * 2 * 64 * 32 + 3 * 2 * 64 * 96)
    mdlm = Shape.of({"hidden_dim": 64, "n_blocks": 2})
    assert mdlm.linear == 2 * (4 * 2 * 64 * 64 + 2 * 2 * 64 * 256)


def test_a_missing_token_counts_as_a_flip():
    assert flips([1, 2, 3], [1, 5, 3, 4]) == 2
    assert flips([], []) == 0
