"""What people could try on the HTTP port and through names; and what must stand nowhere in the code."""

from __future__ import annotations

import ast
import re
import socket
from pathlib import Path

import pytest

from tests.web.world import TOKEN, World

ROOT = Path(__file__).parents[2]
SOURCES = sorted(file for folder in ("monitor", "detectors") for file in (ROOT / folder).rglob("*.py"))
NEVER_IMPORTED = {"pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
NEVER_CALLED = {"eval", "exec", "system", "popen", "mktemp"}
HOSTILE = ("' OR 1=1 --", '"; DROP TABLE windows; --', "x' UNION SELECT state FROM lines --", "%", "_", "\\", "*")


def calls(tree: ast.AST) -> list[tuple[str, ast.Call]]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            found.append((name, node))
    return found


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(ROOT)))
def test_nothing_that_was_read_is_ever_run(file: Path):
    tree = ast.parse(file.read_text())
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert not imported & NEVER_IMPORTED
    for name, call in calls(tree):
        assert name not in NEVER_CALLED, ast.unparse(call)
        for keyword in call.keywords:
            is_true = isinstance(keyword.value, ast.Constant) and keyword.value.value is True
            assert not (keyword.arg in {"allow_pickle", "shell"} and is_true), ast.unparse(call)


def test_secrets_are_compared_in_constant_time():
    secret = re.compile(r"token|mark|digest|signature|expected", re.IGNORECASE)
    compared = 0
    for name in ("monitor/web/gate.py", "monitor/channels/webhook.py"):
        tree = ast.parse((ROOT / name).read_text())
        compared += sum(name == "compare_digest" for name, _ in calls(tree))
        for node in ast.walk(tree):
            if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Eq | ast.NotEq):
                assert not secret.search(ast.unparse(node)), ast.unparse(node)
    assert compared >= 4


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_is_never_a_part_of_a_question_to_the_database(world: World, name: str):
    with world.client() as client, world.history() as history:
        before = len(history.windows("car-loan"))
        asked = {"model": name, "column": name, "segment": name, "state": name}
        assert client.get("/api/incidents", params=asked).json() == []
        assert client.get("/api/outbox", params=asked).json() == []
        assert client.get("/api/models/car-loan/windows", params={"segment": name}).json()["windows"] == []
        assert client.get("/api/models/car-loan/history", params=asked).status_code == 404
        assert history.incidents(model=name) == ()
        assert len(history.windows("car-loan")) == before > 0


@pytest.mark.parametrize(
    "place",
    [
        "/static/..%2f..%2f..%2fetc%2fpasswd", "/static/../server.py", "/static/%2e%2e%2fgate.py",
        "/incidents/..%2f..%2fdriftd.db/report", "/incidents/%2e%2e/report", "/models/..%2f..%2ftoken",
    ],
)  # fmt: skip
def test_no_address_leads_to_a_file(world: World, place: str):
    with world.client() as client:
        answer = client.get(place)
        assert answer.status_code == 404
        assert TOKEN not in answer.text
        assert "root:" not in answer.text


@pytest.mark.parametrize("following", ["/\r\nSet-Cookie: a=b", "//evil.example", "https://evil.example", "/\u2028x"])
def test_nothing_a_visitor_writes_becomes_a_header(world: World, following: str):
    with world.client() as client:
        name = "ana\r\nX-Evil: 1"
        answer = client.post("/login", data={"name": name, "token": TOKEN, "next": following})
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        assert "x-evil" not in answer.headers
        assert len(answer.headers.get_list("set-cookie")) == 1
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie


def test_no_other_site_can_send_a_form(world: World):
    with world.client() as client:
        client.post("/login", data={"name": "ana", "token": TOKEN})
        page = client.get("/silences").text
        mark = re.search(r'name="mark" value="([0-9a-f]+)"', page)
        assert mark
        fields = {"comment": "x", "hours": "1", "model": "none"}
        for form, headers in (
            (fields, {}),
            (fields | {"mark": "0" * 64}, {}),
            (fields | {"mark": mark[1]}, {"Sec-Fetch-Site": "cross-site"}),
            (fields | {"mark": mark[1]}, {"Origin": "https://evil.example"}),
        ):
            assert client.post("/do/silence", data=form, headers=headers).status_code == 403
        assert client.get("/api/silences").json() == []


def test_a_head_without_end_is_cut_off(world: World):
    host, _, port = world.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Large: ")
        answer = b""
        try:
            for _ in range(200):
                connection.sendall(b"x" * 65_536)
            answer = connection.recv(100)
        except OSError:  # cut off while it was being sent
            pass
        assert answer == b"" or answer.startswith(b"HTTP/1.1 4")
    with world.client() as client:
        assert client.get("/healthz").status_code == 200


def test_every_test_that_the_threat_model_names_exists():
    text = (ROOT / "docs" / "security.md").read_text()
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", text)
    assert len(named) > 15
    for file, test in named:
        assert f"def {test}(" in (ROOT / file).read_text(), f"{file}::{test}"
