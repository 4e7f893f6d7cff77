"""Records hold tensors: they never change, and two of them are equal when they are one."""

import dataclasses
import importlib
import pkgutil

import pytest

from remask.canvas import Canvas, Edit
from remask.decoders.base import Decoder, View
from remask.denoise import Decoded, Sight, State, Step
from remask.prediction import Belief, LeftOut, Prediction, Summary
from remask.reuse.base import Pass, Reuse, Scene
from remask.windows.base import Window

PROTOCOLS = {Decoder, Window, Reuse}


@pytest.mark.parametrize("kind", [Belief, Canvas, Decoded, Edit, LeftOut, Pass, Prediction, Scene, Sight, State, Step, Summary, View])
def test_a_record_is_frozen_and_compared_by_identity(kind):
    fields = dataclasses.fields(kind)
    record = kind(**{field.name: None for field in fields})
    assert record == record
    assert record != kind(**{field.name: None for field in fields})
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(record, fields[0].name, 1)


def parts_and_memories():
    """Every dataclass of the packages of parts."""
    packages = [importlib.import_module(f"remask.{name}") for name in ("decoders", "windows", "reuse")]
    modules = [importlib.import_module(f"{package.__name__}.{found.name}") for package in packages for found in pkgutil.iter_modules(package.__path__)]
    return [kind for module in modules for kind in vars(module).values() if isinstance(kind, type) and kind.__module__ == module.__name__ and kind not in PROTOCOLS]


@pytest.mark.parametrize("kind", parts_and_memories(), ids=lambda kind: kind.__name__)
def test_parts_and_their_memories_are_frozen_and_only_parts_have_a_value(kind):
    made = vars(kind)["__dataclass_params__"]
    assert made.frozen
    assert made.eq == bool(PROTOCOLS & set(kind.__mro__))
