"""Every field of every route, fuzzed from the description: no answer is an error of the server.

A few examples for each operation in the normal run, many with --long. What it looks at: no 5xx, an
answer that the description allows, and its media type. The control: a route that fails is found.
"""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI, Response
from hypothesis import HealthCheck, Phase, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, status_code_conformance

from api.service.routes import ROUTERS
from tests.support.service import Running

# Counting branches doubles the time of a search, and others reach the same ones.
pytestmark = pytest.mark.no_cover

ALL = sorted(
    f"{method} {route.path}"
    for router in ROUTERS
    for route in router.routes
    for method in route.methods or ()
)
UNKNOWN_TO_OPENAPI = ("LOCK", "UNLOCK")  # tests/acceptance/test_terraform.py fuzzes those
OPERATIONS = [one for one in ALL if one.split(" ")[0] not in UNKNOWN_TO_OPENAPI]
ROLES = {
    "terraform": "provisioner",
    "/access": "admin",
    "/metrics": "admin",
    "approvals": "approver",
    "reports": "compliance",
}
MANY = ["/v1/ledgers/{ledger}/stream"]


def role_of(operation: str) -> str:
    return next((role for part, role in ROLES.items() if part in operation), "operator")


@pytest.fixture(scope="module")
def described(sqlite_service: Running) -> Any:
    with sqlite_service.client() as client:
        return client.get("/openapi.json").json()


def test_the_routes_are_those_of_the_description(described: Any) -> None:
    there = {
        f"{method.upper()} {path.replace(':path', '')}"
        for path, methods in described["paths"].items()
        for method in methods
    }
    assert there == {operation.replace(":path", "") for operation in OPERATIONS}
    assert len(OPERATIONS) >= 40
    others = {f"{one['method']} {one['path']}" for one in described["x-asof-methods"]}
    assert others == set(ALL) - set(OPERATIONS) and len(others) == 2


@pytest.fixture(scope="module")
def schema(sqlite_service: Running, described: Any) -> Any:
    found = schemathesis.openapi.from_dict(described)
    found.config.update(base_url=sqlite_service.url)
    return found


@pytest.mark.parametrize("operation", OPERATIONS)
def test_no_input_is_an_error_of_the_server(
    sqlite_service: Running, schema: Any, operation: str, request: pytest.FixtureRequest
) -> None:
    method, path = operation.split(" ")
    path = path.replace(":path", "")
    many = 300 if request.config.getoption("--long") else 12
    if path in MANY:
        pytest.skip("a stream that is open has no end; test_service.py asks it")
    found = schema[path][method]
    modes = [GenerationMode.POSITIVE, GenerationMode.NEGATIVE]
    token = sqlite_service.prepared.tokens[role_of(operation)]
    for mode in modes:
        _fuzz(found, mode, many // 2, token)


def _fuzz(operation: Any, mode: GenerationMode, many: int, token: str) -> None:
    from hypothesis import given

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=many,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        derandomize=True,
    )
    def ask(case: Any) -> None:
        if "ledger" in case.path_parameters:
            case.path_parameters["ledger"] = "acme"
        headers = {"Authorization": f"Bearer {token}"}
        response = case.call(headers=headers, timeout=10)
        checks = [not_a_server_error, status_code_conformance, content_type_conformance]
        case.validate_response(response, checks=checks)

    try:
        ask()
    except Exception as error:
        if type(error).__name__ == "Unsatisfiable":
            return
        raise


def test_the_fuzzer_would_notice() -> None:
    """Control: a route that fails for one input."""
    app = FastAPI()

    @app.get("/divide")
    def divide(by: int) -> Response:
        return Response(status_code=500 if by % 5 == 0 else 200)

    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    with pytest.raises(BaseException, match=r"(?i)server error"):
        operation = schema["/divide"]["GET"]

        from hypothesis import given

        @given(case=operation.as_strategy(generation_mode=GenerationMode.POSITIVE))
        @settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
        def ask(case: Any) -> None:
            case.call_and_validate(checks=[not_a_server_error])

        ask()
