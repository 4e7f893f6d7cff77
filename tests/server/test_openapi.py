"""The OpenAPI document describes the server: schemathesis makes requests from it, right and wrong ones, and none is a defect or answered in another shape than promised."""

import pytest

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed (pip install -e '.[dev]')")

from hypothesis import HealthCheck, given, settings  # noqa: E402
from schemathesis import GenerationMode  # noqa: E402

PATHS = ["POST /v1/completions", "POST /v1/chat/completions", "GET /v1/models", "GET /v1/models/{name}", "GET /v1/remask/parts", "GET /health", "GET /metrics"]


@pytest.fixture(scope="module")
def operations(server):
    found = {operation.ok().label: operation.ok() for operation in schemathesis.openapi.from_url(f"{server}/openapi.json").get_all_operations()}
    assert set(found) == set(PATHS)
    return found


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["right", "wrong"])
@pytest.mark.parametrize("path", PATHS)
def test_no_request_made_from_the_document_is_a_defect(operations, path, mode):
    if mode == GenerationMode.NEGATIVE and not path.startswith("POST"):
        pytest.skip("nothing to get wrong")
    checks = [schemathesis.checks.not_a_server_error, schemathesis.openapi.checks.response_schema_conformance, schemathesis.openapi.checks.status_code_conformance]

    @settings(max_examples=30 if path.startswith("POST") else 3, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(case=operations[path].as_strategy(generation_mode=mode))
    def answered(case):
        answer = case.call()
        if answer.status_code >= 400:
            assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
        case.validate_response(answer, checks=checks)

    answered()
