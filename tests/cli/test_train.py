"""What `remask train` makes of its options before anything is trained."""

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from remask import RemaskError
from remask.cli import train
from remask.cli.train import choose


@dataclass(frozen=True)
class Plan:
    variant: str = ""
    steps: int = 700
    seed: int = 0


def recipe(data, variant="usual"):
    return Plan(variant)


SEVERAL, ONE = (SimpleNamespace(__name__="walk", recipe=recipe, **more) for more in ({"VARIANTS": ("slow",)}, {}))
DATA = Path("data")


def test_a_plan_is_the_recipes_own_but_for_what_was_asked():
    assert choose(ONE, DATA, "", None) == Plan("usual")
    assert choose(SEVERAL, DATA, "slow", 1, 2**31 - 1) == Plan("slow", 1, 2**31 - 1)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("", 0), "steps is 0; use 1 or more"),
        (("", -3), "steps is -3; use 1 or more"),
        (("", None, -1), "seed is -1; use 0 to 2147483647"),
        (("", None, 2**31), "seed is 2147483648; use 0 to 2147483647"),
        (("slow", None), "walk has no variants, 'slow' was asked for; leave --variant out"),
    ],
)
def test_what_no_run_can_have_is_refused_with_the_remedy(asked, said):
    with pytest.raises(RemaskError) as refused:
        choose(ONE, DATA, *asked)
    assert str(refused.value) == said


@pytest.mark.parametrize("rank", [None, "0", "1"])
def test_of_several_processes_the_first_shows_how_it_goes(monkeypatch, capsys, rank):
    hidden = []
    monkeypatch.setattr(train, "load_recipe", lambda path: ONE)
    monkeypatch.setattr(train, "shown", lambda plan, out, **how: hidden.append(how["hidden"]) or out / "checkpoint")
    monkeypatch.delenv("RANK", raising=False)
    if rank is not None:
        monkeypatch.setenv("RANK", rank)
    train.run(DATA, prepare=False, prepare_only=False, variant="", steps=None, seed=0, minutes=None)
    assert hidden == [rank == "1"]
    assert capsys.readouterr().out == ("" if rank == "1" else "runs/out/checkpoint\n")
