"""A setting that makes no sense is refused, with its name and its value; NaN in tests/laws/test_settings.py."""

import re

import pytest

import remask

BAD = [
    "ancestral:steps=0",
    "core:every=0",
    "core:suspects=0",
    "core:remask=0",
    "core:reviews=-1",
    "credit:alpha=-1",
    "credit:beta=1.5",
    "dus:base=1",
    "dus:skip=-1",
    "entropy_bound:gamma=-0.1",
    "factor:f=-1",
    "halton:base=1",
    "joint_threshold:write_tau=0.7,edit_tau=0.9,post=-1",
    "joint_threshold:write_tau=0.7,edit_tau=0.9,most=0",
    "klass:history=0",
    "local_leap:radius=-1",
    "low_confidence:literal_blocks=32",
    "low_confidence:literal_blocks=0,steps=4",
    "low_confidence:steps=0",
    "maskgit_plus:alg_temp=-1",
    "p2:steps=0",
    "p2:eta=-1",
    "pc:lam=-1",
    "pc:alpha=0",
    "prophet:answer=all",
    "prophet:of=rest",
    "prophet:width=0",
    "remdm:steps=0",
    "remdm:eta=1.5",
    "remdm:t_on=0.05,t_off=0.1",
    "remdm:alpha_on=1",
    "remdm:strategy=doubt,power=-1",
    "remdm:strategy=loop,alpha_on=0.9,eta=0.2",
    "remdm_llada:share=2",
    "remdm_llada:loops=-1",
    "saber:least=0",
    "slow_fast:slow_steps=-1",
    "slow_fast:history=1",
    "spaced:inner=(threshold:0.9),g0=-1",
    "spaced:inner=(threshold:0.9),min_gap=0",
    "starr:c_fast=0.5,c_slow=0.6",
    "starr:c_slow=-0.1",
    "starr:window=0",
    "starr:radius=0",
    "starr:min_history=0",
    "starr:fast_steps=0",
    "starr:at_least=0",
    "starr:signals=distribution,top=0",
    "starr:p=-1",
    "starr:lam=2",
    "starr:sigma=0",
    "starr:delta=0",
    "starr:tau_max=0.5",
    "starr:norm=quantile,p=2",
    "starr:signals=colour",
    "threshold:at_most=0",
    "wino:share=2",
    "wino:least=0",
    "wino:least=9,most=4",
    "risk:budget=2",
    "random:steps=0",
    "origin:steps=-3",
]


def last_setting(text):
    """Name and value of what a spec string ends with."""
    return text.rpartition(":")[2].rpartition(",")[2].split("=")


@pytest.mark.parametrize("text", BAD)
def test_a_setting_out_of_range_is_named_with_its_value(text):
    name, value = last_setting(text)
    with pytest.raises(remask.RemaskError, match=rf"\b{name}\b.*{re.escape(value)}"):
        remask.parse_decoder(text)


def test_every_decoder_that_checks_its_settings_is_tried():
    checks = {name for name, kind in remask.decoders().items() if "__post_init__" in vars(kind)}
    assert not checks - {text.partition(":")[0] for text in BAD}
