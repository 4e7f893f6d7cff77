"""One checkpoint and one server for the tests that need no setting of their own."""

import pytest

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")
pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")

from tests.server.serving import serving, write_checkpoint


@pytest.fixture(scope="session")
def letters(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("letters"), scale=8.0)


@pytest.fixture(scope="module")
def server(letters):
    with serving(letters) as (address, _):
        yield address
