"""The API keeps to its own description, whatever is asked of it."""

from __future__ import annotations

import re
from pathlib import Path

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.config import SchemathesisConfig

from tests.web.world import TOKEN, World

BEARER = {"Authorization": f"Bearer {TOKEN}"}


def test_everything_is_described(world: World):
    with world.client() as client:
        document = client.get("/api/schema/openapi.json").json()
    operations = {(path, method) for path, methods in document["paths"].items() for method in methods}
    assert len(operations) >= 22
    for path, method in operations:
        operation = document["paths"][path][method]
        assert operation["description"], path
        assert "401" in operation["responses"]
        if method == "post" and not re.fullmatch(r"/api/triggers/\{trigger\}", path):
            assert operation["security"] == [{"token": []}]


def test_the_documentation_names_every_call_and_no_other(world: World):
    with world.client() as client:
        document = client.get("/api/schema/openapi.json").json()
    wanted = {
        f"{method.upper()} {path}": " ".join(operation["description"].split())
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    text = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
    assert dict(re.findall(r"(?m)^\| `((?:GET|POST) [^`]+)` \| (.*) \|$", text)) == wanted


def test_every_answer_is_as_described(world: World):
    config = SchemathesisConfig.from_dict({"generation": {"deterministic": True}, "seed": 1})
    schema = schemathesis.openapi.from_url(f"{world.url}/api/schema/openapi.json", config=config)
    n_asked = 0
    for operation in (result.ok() for result in schema.get_all_operations()):

        @settings(
            max_examples=8, deadline=None, derandomize=True, database=None, phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(case=operation.as_strategy())
        def ask(case: schemathesis.Case):
            nonlocal n_asked
            case.call_and_validate(headers=BEARER)
            n_asked += 1

        ask()
    assert n_asked >= 100
