"""The description of the API, held against the API: requests made up from `/openapi.json`, good and bad, against a real process.

No answer is a 5xx, every status is described, and every body is as its schema says.
"""

import itertools
from collections import Counter
from collections.abc import Iterator

import hypothesis
import pytest
import schemathesis
from schemathesis import Case, GenerationMode
from schemathesis.checks import CheckFunction, load_all_checks
from schemathesis.specs.openapi import checks as openapi_checks

from tests.api.asking import event
from tests.api.process import TOKEN, Process

load_all_checks()
CHECKS: list[CheckFunction] = [
    schemathesis.checks.not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_schema_conformance,
    openapi_checks.unsupported_method,
]
KNOWN = {"org": "acme", "key": "crawler", "cap": "day"}
NOT_HTTP = "Invalid HTTP request received."  # the HTTP library's own words for bytes that are not a request
EXAMPLES = 10  # good ones and bad ones of each operation; there are some 40


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Iterator[schemathesis.BaseSchema]:
    home = tmp_path_factory.mktemp("described")
    with Process(home, f"sqlite:///{home / 'served.db'}") as process:
        process.client.put("/v1/orgs/acme/caps/day", json={"scope": "org", "period": "day", "limit_usd": "1", "action": "pause"})
        process.use([event(time="2025-01-01T12:00:00Z")])
        yield schemathesis.openapi.from_url(f"{process.url}/openapi.json")


def test_every_name_in_it_is_one_that_clients_can_be_made_of(described: schemathesis.BaseSchema) -> None:
    """Two classes of one name get the paths of their modules for names, and openapi-python-client leaves out what uses them."""
    assert not [name for name in described.raw_schema["components"]["schemas"] if "__" in name]


def test_every_operation_answers_as_it_is_described(described: schemathesis.BaseSchema) -> None:
    statuses: Counter[tuple[GenerationMode, int]] = Counter()
    for found, mode in itertools.product(described.get_all_operations(), (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)):
        operation, answered = found.ok(), list[int]()
        if mode is GenerationMode.NEGATIVE and not (operation.query or operation.body or operation.headers):
            continue

        @hypothesis.settings(
            max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, suppress_health_check=list(hypothesis.HealthCheck),
            phases=[hypothesis.Phase.generate],
        )  # fmt: skip
        @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
        def answers_as_described(case: Case) -> None:
            case.path_parameters.update({name: value for name, value in KNOWN.items() if name in case.path_parameters})
            answer = case.call(headers={"Authorization": f"Bearer {TOKEN}"})
            if answer.text != NOT_HTTP:
                case.validate_response(answer, checks=CHECKS)
            answered.append(answer.status_code // 100)  # noqa: B023 (called before the loop goes on)

        answers_as_described()
        statuses.update((mode, hundreds) for hundreds in answered)
    assert statuses[GenerationMode.POSITIVE, 2] > 100 and statuses[GenerationMode.NEGATIVE, 4] > 100, statuses
