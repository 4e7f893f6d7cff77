"""Files of ids and of text: what is broken, or unpacks to more than it should, is named."""

import lzma

import numpy as np
import pytest

from remask import RemaskError
from remask.evaluation.tasks import files
from remask.training import data


def test_a_stream_comes_back_and_broken_ones_are_named(tmp_path):
    data.write_stream(tmp_path / "ids.xz", np.array([5, 0, 65535]))
    assert data.read_stream(tmp_path / "ids.xz").tolist() == [5, 0, 65535]
    (tmp_path / "torn.xz").write_bytes((tmp_path / "ids.xz").read_bytes()[:-20])
    (tmp_path / "odd.xz").write_bytes(lzma.compress(b"123"))
    (tmp_path / "plain.xz").write_bytes(b"12")
    for name in ("torn", "odd", "plain", "absent"):
        with pytest.raises(RemaskError, match=rf"{name}.xz' are missing or broken .*; run the recipe with --prepare first"):
            data.read_stream(tmp_path / f"{name}.xz")


def test_a_stream_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "MOST", 6)
    data.write_stream(tmp_path / "ids.xz", np.arange(3))
    assert data.read_stream(tmp_path / "ids.xz").tolist() == [0, 1, 2]
    data.write_stream(tmp_path / "ids.xz", np.arange(4))
    with pytest.raises(RemaskError, match="unpack to more than 6 bytes"):
        data.read_stream(tmp_path / "ids.xz")


def test_lines_of_a_packed_text_and_one_that_never_ends(tmp_path, monkeypatch):
    path = tmp_path / "text.xz"
    path.write_bytes(lzma.compress("ab\nécd\n".encode()))
    assert list(files.lines(path)) == ["ab\n", "écd\n"]
    monkeypatch.setattr(files, "LONGEST", 4)
    with pytest.raises(RemaskError, match=r"text.xz has a line of 4 characters or more"):
        list(files.lines(path))
    path.write_bytes(b"no xz")
    with pytest.raises(RemaskError, match=r"text.xz is broken .*; fetch it again"):
        list(files.lines(path))
