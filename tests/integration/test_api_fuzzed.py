"""schemathesis against ``hk-tick-api``: what its document promises, asked at random; bounded, and always the same.

The nights ask more often, by another seed, and every value at its edges: API_EXAMPLES, API_SEED.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import BIN, ended
from tests.serving import ApiServer, add_key, record_roots

PROMISES = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,"
    "negative_data_rejection,unsupported_method"
)
EXAMPLES, SEED = int(os.environ.get("API_EXAMPLES", "8")), os.environ.get("API_SEED", "7")
IS_LONG = "API_EXAMPLES" in os.environ
PHASES = "examples,coverage,fuzzing,stateful" if IS_LONG else "fuzzing"
PATIENCE_SEC = 5000 if IS_LONG else 200


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzzed")


@pytest.fixture(scope="module")
def key(place: Path) -> str:
    return add_key(place / "keys.json", scopes=["admin"])


@pytest.fixture(scope="module")
def server(place: Path, key: str) -> Iterator[ApiServer]:
    assert key
    running = ApiServer(place, record_roots(place), API_KEYS_FILE=place / "keys.json")
    with ended(running):
        yield running
        assert "Traceback" not in running.output, running.output[-3000:]


def fuzz(server: ApiServer, place: Path, *options: object) -> str:
    command = [
        BIN / "schemathesis", "run", f"{server.url}/openapi.json", "--seed", SEED, "--no-color",
        "--generation-database", "none", "--suppress-health-check", "all", "--phases", PHASES, *options,
    ]  # fmt: skip
    done = subprocess.run(
        list(map(str, command)), cwd=place, capture_output=True, text=True, timeout=PATIENCE_SEC, check=False
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-1000:]
    return done.stdout


def test_with_a_key_every_answer_is_as_the_document_says(server: ApiServer, key: str, place: Path) -> None:
    outcome = fuzz(
        server, place, "-H", f"Authorization: Bearer {key}", "--checks", PROMISES, "--max-examples", EXAMPLES
    )
    assert "Rate limited" not in outcome
    match = re.search(r"(\d+) generated, (\d+) passed", outcome)
    assert match is not None
    assert match[1] == match[2]
    assert int(match[1]) > 150


def test_without_a_key_nothing_is_answered(server: ApiServer, place: Path) -> None:
    fuzz(server, place, "--checks", "not_a_server_error,ignored_auth", "--max-examples", max(2, EXAMPLES // 4))
    with server.client() as client:
        document = client.get("/openapi.json").json()
        for path, operations in document["paths"].items():
            for method in operations:
                response = client.request(method, path.replace("{day}", "last").replace("{name}", "ml-trade"))
                free = path == "/v1/healthz"
                assert (response.status_code == 200) if free else response.status_code in (401, 429), (method, path)
