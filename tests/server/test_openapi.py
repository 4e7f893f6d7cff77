"""The OpenAPI document describes the server: schemathesis makes requests from it, right and wrong ones, and none is a defect or answered in another shape than promised."""

import pytest

pytest.importorskip("schemathesis", reason="schemathesis is not installed (pip install -e '.[dev]')")

import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance, status_code_conformance

from tests.server.serving import serving, write_checkpoint

PATHS = ["POST /v1/completions", "POST /v1/chat/completions", "GET /v1/models", "GET /v1/models/{name}", "GET /v1/remask/parts", "GET /health", "GET /metrics"]


@pytest.fixture(scope="module")
def operations(tmp_path_factory):
    with serving(write_checkpoint(tmp_path_factory.mktemp("short"), longest=16)) as (address, _):
        found = {operation.ok().label: operation.ok() for operation in schemathesis.openapi.from_url(f"{address}/openapi.json").get_all_operations()}
        assert set(found) == set(PATHS)
        yield found


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["right", "wrong"])
@pytest.mark.parametrize("path", PATHS)
def test_no_request_made_from_the_document_is_a_defect(operations, path, mode):
    if mode == GenerationMode.NEGATIVE and not path.startswith("POST"):
        pytest.skip("nothing to get wrong")
    checks = [schemathesis.checks.not_a_server_error, response_schema_conformance, status_code_conformance, content_type_conformance]

    @settings(max_examples=30 if path.startswith("POST") else 3, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(case=operations[path].as_strategy(generation_mode=mode))
    def answered(case):
        answer = case.call(timeout=120)
        if answer.status_code >= 400:
            assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
        case.validate_response(answer, checks=checks)

    answered()
