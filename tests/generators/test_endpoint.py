"""A model behind an address: what is sent, what is read, and what is said when it fails."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from burnish.errors import ModelError
from burnish.failures import Failure, counted
from burnish.generators import Generator
from burnish.generators.endpoint import Endpoint
from burnish.records import Message

Answer = Callable[[dict[str, Any], dict[str, str]], tuple[int, str]]


@contextmanager
def server(answer: Answer) -> Iterator[str]:
    """Serve chat completions on a free port; yield the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/chat/completions"
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, text = answer(body, dict(self.headers))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}/v1"
        running.shutdown()


def said(text: str | None) -> tuple[int, str]:
    return 200, json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]})


def prompts(*texts: str) -> list[list[Message]]:
    return [[Message(role="user", content=text)] for text in texts]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    waits: list[float] = []
    monkeypatch.setattr("burnish.generators.endpoint.time.sleep", waits.append)
    return waits


def test_prompts_are_answered_in_their_order_and_counted() -> None:
    counts: list[int] = []
    with server(lambda body, _: said(f" {body['messages'][0]['content'].upper()}\n")) as url:
        writer = Endpoint(url=url, model="m").load()
        texts = [f"text {number}" for number in range(12)]
        assert writer.write(prompts(*texts), done=counts.append) == [text.upper() for text in texts]
    assert sorted(counts) == [*range(1, 13)]


def test_settings_and_key_are_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "secret")
    seen: list[tuple[dict[str, Any], dict[str, str]]] = []

    def answer(body: dict[str, Any], headers: dict[str, str]) -> tuple[int, str]:
        seen.append((body, headers))
        return said("yes")

    with server(answer) as url:
        part = {"kind": "endpoint", "url": f"{url}/chat/completions", "model": "m", "key_env": "MY_KEY", "seed": 3}
        Generator.read(part).load().write(prompts("hello"), done=lambda _: None)
    [(body, headers)] = seen
    assert body == {
        "model": "m",
        "messages": [{"role": "user", "content": "hello"}],
        "max_tokens": 256,
        "temperature": 0.0,
        "seed": 3,
    }
    assert headers["Authorization"] == "Bearer secret"


def test_no_key_is_sent_where_none_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    seen: list[dict[str, str]] = []

    def answer(_: dict[str, Any], headers: dict[str, str]) -> tuple[int, str]:
        seen.append(headers)
        return said("yes")

    with server(answer) as url:
        Endpoint(url=url, model="m").load().write(prompts("hello"), done=lambda _: None)
    assert "Authorization" not in seen[0]


def test_a_busy_server_is_asked_again(no_waiting: list[float]) -> None:
    turns = iter([(429, "slow down"), (503, ""), said("at last")])
    with server(lambda *_: next(turns)) as url:
        assert Endpoint(url=url, model="m").load().write(prompts("hello"), done=lambda _: None) == ["at last"]
    assert no_waiting == [1.0, 2.0]


def test_a_refusal_is_told_at_once_and_ends_the_rest() -> None:
    asked: list[dict[str, Any]] = []

    def answer(body: dict[str, Any], _: dict[str, str]) -> tuple[int, str]:
        asked.append(body)
        return 401, "\x1b[31mno such key"

    with server(answer) as url:
        writer = Endpoint(url=url, model="m", parallel=1).load()
        with pytest.raises(ModelError, match=r"gave no answer \(status 401: no such key\).*OPENAI_API_KEY"):
            writer.write(prompts(*map(str, range(20))), done=lambda _: None)
    assert len(asked) == 1


def test_a_server_that_is_not_there_is_named() -> None:
    writer = Endpoint(url="http://127.0.0.1:9/v1", model="m", tries=2).load()
    with pytest.raises(ModelError, match=r"http://127\.0\.0\.1:9/v1: the model 'm' gave no answer \(Connect"):
        writer.write(prompts("hello"), done=lambda _: None)


@pytest.mark.parametrize("text", ["<html>", "{}", '{"choices": []}', '{"choices": [1]}'])
def test_another_form_is_refused(text: str) -> None:
    with (
        server(lambda *_: (200, text)) as url,
        pytest.raises(ModelError, match=r"no choices\[0\]\.message\.content"),
    ):
        Endpoint(url=url, model="m").load().write(prompts("hello"), done=lambda _: None)


def test_no_content_is_an_empty_text() -> None:
    with server(lambda *_: said(None)) as url:
        assert Endpoint(url=url, model="m").load().write(prompts("hello"), done=lambda _: None) == [""]


def test_an_address_must_be_one() -> None:
    with pytest.raises(ValidationError, match="an address begins with http"):
        Endpoint(url="localhost:8080", model="m")


def test_one_prompt_that_fails_does_not_stop_the_rest() -> None:
    def answer(body: dict[str, Any], _: dict[str, str]) -> tuple[int, str]:
        text = body["messages"][0]["content"]
        return {"bad": (400, "\x1b[31mtoo long"), "odd": (200, "<html>")}.get(text, said(text.upper()))

    counts: list[int] = []
    with server(answer) as url:
        writer = Endpoint(url=url, model="m").load()
        found = writer.attempt(prompts("a", "bad", "b", "odd", "c"), done=counts.append)
    assert [one.kind if isinstance(one, Failure) else one for one in found] == ["A", "refused", "B", "garbage", "C"]
    assert isinstance(found[1], Failure)
    assert found[1].reason == "status 400: too long"
    assert sorted(counts) == [1, 2, 3, 4, 5]


def test_a_server_that_never_answers_is_not_asked_about_everything() -> None:
    asked: list[dict[str, Any]] = []

    def answer(body: dict[str, Any], _: dict[str, str]) -> tuple[int, str]:
        asked.append(body)
        return 401, "no such key"

    with server(answer) as url:
        writer = Endpoint(url=url, model="m", parallel=1).load()
        found = writer.attempt(prompts(*map(str, range(50))), done=lambda _: None)
    assert len(asked) == 10
    assert counted(found) == {"disconnect": 40, "refused": 10}


def test_what_is_kept_is_not_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path))
    asked: list[str] = []

    def answer(body: dict[str, Any], _: dict[str, str]) -> tuple[int, str]:
        asked.append(body["messages"][0]["content"])
        return (500, "") if asked == ["first"] else said(f"{asked[-1]} {len(asked)}")

    with server(answer) as url:
        kept = Endpoint(url=url, model="m", keep=True, tries=1, parallel=1)  # what is asked first is answered first
        [failed] = kept.load().attempt(prompts("first"), done=lambda _: None)
        assert isinstance(failed, Failure)  # which is not kept
        for _ in range(2):
            assert kept.load().write(prompts("first", "second"), done=lambda _: None) == ["first 2", "second 3"]
        for other in ({"seed": 1}, {"model": "n"}, {"temperature": 0.5}, {"max_new_tokens": 7}, {"keep": False}):
            kept.model_copy(update=other).load().write(prompts("first"), done=lambda _: None)
    assert asked == ["first", "first", "second", *["first"] * 5]
