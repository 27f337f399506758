"""A model behind an OpenAI-compatible address, on this machine or elsewhere."""

import json
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import httpx2 as httpx
from pydantic import Field, field_validator

from burnish.cache import cache_folder
from burnish.errors import ModelError
from burnish.failures import Failure, Kind
from burnish.generators import Generator, Writer, require_draws
from burnish.records import Message
from burnish.run import read_json, write_json
from burnish.text import fingerprint, printable

T = TypeVar("T")

_AGAIN = {408, 409, 429, 500, 502, 503, 504}  # what may go well on a further try
_DOWN = 10  # so many first prompts that all fail, and a server is taken to be down
_SHOWN = 300  # characters of an answer that a message shows


class Endpoint(Generator):
    """A chat model that a server offers as `POST URL/chat/completions`: llama.cpp, vLLM, Ollama, or a provider.

    The text is what stands in `choices[0].message.content`. `temperature` 0 asks for the likeliest text, with a seed;
    whether a prompt then always has the same text is up to the server. The key is read from the environment variable
    that `key_env` names, and never written anywhere.
    """

    url: str  # up to and without /chat/completions, as `http://127.0.0.1:8080/v1`
    model: str
    key_env: str = "OPENAI_API_KEY"  # sent only where this variable is set
    max_new_tokens: int = Field(default=256, ge=1)
    temperature: float = Field(default=0.0, ge=0)
    seed: int = 0
    parallel: int = Field(default=4, ge=1)  # requests at a time
    seconds: float = Field(default=120.0, gt=0)  # waited for one answer
    tries: int = Field(default=5, ge=1)  # of each prompt, with growing waits between them
    keep: bool = False  # answers on disk, by all that was asked of which address: a server may change its model unseen

    @field_validator("url")
    @classmethod
    def _is_an_address(cls, url: str) -> str:
        """Return the address without a slash at its end.

        Raises:
            ValueError: it is no http(s) address.
        """
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"an address begins with http:// or https:// (found {url!r})")
        return url.rstrip("/").removesuffix("/chat/completions")

    def load(self) -> Writer:
        """Return a writer; the server is asked when the first prompt comes."""
        return _EndpointWriter(self)


class _EndpointWriter:
    parameters = 0  # a server does not say how large its model is

    def __init__(self, settings: Endpoint) -> None:
        self._settings = settings
        key = os.environ.get(settings.key_env, "")
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}

    def write(self, prompts: Sequence[Sequence[Message]], *, done: Callable[[int], None]) -> list[str]:
        """Return the text written after each prompt; where one fails for good, the rest are not asked.

        Raises:
            ModelError: the server cannot be reached, refuses, or answers in another form.
        """
        return self._answers([(prompt, self._settings.seed) for prompt in prompts], done=done)

    def attempt(self, prompts: Sequence[Sequence[Message]], *, done: Callable[[int], None]) -> list[str | Failure]:
        """Return what `write` does, with a failure in the place of each text that did not come; the rest are kept.

        Where the first ten all fail, the server is taken to be down, and the rest fail with that without being asked.
        """
        lock, texts, failures = threading.Lock(), 0, 0

        def one(client: httpx.Client, prompt: Sequence[Message], seed: int) -> str | Failure:
            nonlocal texts, failures
            if not texts and failures >= _DOWN:
                return Failure("disconnect", f"not asked: the first {_DOWN} prompts all failed")
            found = self._ask(client, prompt, seed)
            with lock:
                failures += isinstance(found, Failure)
                texts += isinstance(found, str)
                done(texts + failures)
            return found

        return self._each([(prompt, self._settings.seed) for prompt in prompts], one)

    def sample(
        self, prompts: Sequence[Sequence[Message]], *, count: int, done: Callable[[int], None]
    ) -> list[list[str]]:
        """Return `count` texts for each prompt, each asked for with a seed of its own.

        Raises:
            ModelError: as in `write`.
        """
        require_draws(self._settings, self._settings.temperature)
        seeds = range(self._settings.seed, self._settings.seed + count)
        texts = self._answers([(prompt, seed) for prompt in prompts for seed in seeds], done=done)
        return [texts[first : first + count] for first in range(0, len(texts), count)]

    def _answers(self, asked: Sequence[tuple[Sequence[Message], int]], *, done: Callable[[int], None]) -> list[str]:
        """Return the text for each prompt and seed; where one fails for good, the rest are not asked.

        Raises:
            ModelError: the server cannot be reached, refuses, or answers in another form.
        """
        lock, finished, failed = threading.Lock(), 0, threading.Event()

        def one(client: httpx.Client, prompt: Sequence[Message], seed: int) -> str:
            nonlocal finished
            if failed.is_set():
                return ""
            text = self._ask(client, prompt, seed)
            if isinstance(text, Failure):
                failed.set()
                settings = self._settings
                raise ModelError(
                    f"{settings.url}: the model {settings.model!r} gave no answer ({text.reason}). The address must "
                    f"offer /chat/completions; a key is read from the environment variable {settings.key_env}"
                )
            with lock:
                finished += 1
                done(finished)
            return text

        return self._each(asked, one)

    def _each(
        self,
        asked: Sequence[tuple[Sequence[Message], int]],
        one: Callable[[httpx.Client, Sequence[Message], int], T],
    ) -> list[T]:
        """Return what `one` returns for each prompt and seed, in the order given, several at a time."""
        with (
            httpx.Client(headers=self._headers, timeout=self._settings.seconds) as client,
            ThreadPoolExecutor(self._settings.parallel) as pool,
        ):
            return [*pool.map(lambda pair: one(client, *pair), asked)]

    def _ask(self, client: httpx.Client, prompt: Sequence[Message], seed: int) -> str | Failure:
        """Return the text for one prompt, which is sent again where that may help, or why there is none."""
        settings = self._settings
        body = {
            "model": settings.model,
            "messages": [message.model_dump() for message in prompt],
            "max_tokens": settings.max_new_tokens,
            "temperature": settings.temperature,
            "seed": seed,
        }
        kept = self._kept(body)
        if kept is not None and kept.is_file():
            return str(read_json(kept)["text"])
        found: str | Failure = ""
        for turn in range(settings.tries):
            if turn:
                time.sleep(min(30.0, 0.5 * 2**turn))
            try:
                answer = client.post(f"{settings.url}/chat/completions", json=body)
            except httpx.HTTPError as error:
                kind: Kind = "timeout" if isinstance(error, httpx.TimeoutException) else "disconnect"
                found = Failure(kind, f"{type(error).__name__}: {_short(str(error))}")
                continue
            if answer.is_success:
                found = _text(answer)
                break
            found = Failure("refused", f"status {answer.status_code}: {_short(answer.text)}")
            if answer.status_code not in _AGAIN:
                break
        if kept is not None and isinstance(found, str):
            write_json(kept, {"asked": {"url": settings.url, **body}, "text": found})
        return found

    def _kept(self, body: dict[str, Any]) -> Path | None:
        """Return where the answer to a request is kept, if it is to be."""
        if not self._settings.keep:
            return None
        name = fingerprint(self._settings.url, json.dumps(body, sort_keys=True))
        return cache_folder() / "endpoint" / name[:2] / f"{name}.json"


def _text(answer: httpx.Response) -> str | Failure:
    """Return the text of an answer, or that it is not where it should be."""
    try:
        found: Any = answer.json()
        text = found["choices"][0]["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError):  # UnicodeDecodeError too is a ValueError
        what = "an answer has no choices[0].message.content, as OpenAI-compatible servers write it"
        return Failure("garbage", f"{what} (found {_short(answer.text)})")
    return str(text or "").strip()


def _short(text: str) -> str:
    """Return the beginning of a server's words, safe to show."""
    return printable(" ".join(text.split()))[:_SHOWN]
