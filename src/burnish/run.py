"""Folders on disk: written whole or not at all, locked by one process, logged line by line."""

import fcntl
import hashlib
import json
import os
import platform
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from uuid import uuid4

from burnish.errors import RunError, near_miss

NAMED_VERSIONS = ("burnish", "torch", "transformers", "peft", "accelerate", "numpy")


def write_text(path: Path, text: str) -> None:
    """Write a file beside its place, then rename it: a reader sees the old text or the new, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{uuid4().hex[:8]}")
    try:
        with beside.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def write_json(path: Path, value: object) -> None:
    """Write a value as indented JSON, whole or not at all; NaN and infinity are refused."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file that burnish wrote.

    Raises:
        RunError: the file is not there or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunError(f"{path}: there is no such file") from error
    except json.JSONDecodeError as error:
        raise RunError(f"{path}:{error.lineno}: this is not JSON: {error.msg}") from error
    except UnicodeDecodeError as error:
        raise RunError(f"{path}: this is not UTF-8 text, so it is damaged") from error


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path` that takes its place once the block ends well, and vanishes otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{uuid4().hex[:8]}")
    beside.mkdir()
    try:
        yield beside
        for file in beside.rglob("*"):
            if file.is_file():
                _sync(file)
        if path.exists():
            retired = path.with_name(f".{path.name}.{uuid4().hex[:8]}")
            path.rename(retired)
            beside.rename(path)
            shutil.rmtree(retired)
        else:
            beside.rename(path)
        _sync(path.parent)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that shape the numbers."""
    found = {"python": platform.python_version()}
    for name in NAMED_VERSIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # run from a source tree without being installed
            found[name] = "not installed"
    return found


class Run:
    """One folder that holds everything about one run.

    recipe.yaml (resolved) · manifest.json (versions, seed, fingerprints; status last) · log.jsonl (one line a step,
    the same for the same recipe on the same machine) · clock.jsonl (seconds and tokens of each step, which never are)
    · dev.jsonl (one line an evaluation) · checkpoints/ · model/
    """

    def __init__(self, folder: Path) -> None:
        """Point at a folder; `create` makes one and `open` checks that it is there."""
        self.folder = folder

    @classmethod
    def create(cls, folder: Path, *, recipe: str, manifest: Mapping[str, object]) -> "Run":
        """Make the folder.

        Raises:
            RunError: something stands there already.
        """
        if (folder / "manifest.json").exists():
            status = read_json(folder / "manifest.json")["status"]
            remedy = "" if status == "finished" else f" `burnish resume {folder}` goes on with it."
            raise RunError(f"{folder}: a {status} run stands here. Choose another folder with --run.{remedy}")
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "recipe.yaml", recipe)
        write_json(folder / "manifest.json", {**manifest, "versions": versions(), "status": "started"})
        return cls(folder)

    @classmethod
    def open(cls, folder: Path) -> "Run":
        """Point at a run that exists.

        Raises:
            RunError: there is none; the message names the nearest that exists.
        """
        if not (folder / "manifest.json").is_file():
            others = [p.parent.name for p in folder.parent.glob("*/manifest.json")] if folder.parent.is_dir() else []
            raise RunError(f"{folder}: this is not a run folder (no manifest.json).{near_miss(folder.name, others)}")
        return cls(folder)

    @property
    def manifest(self) -> dict[str, Any]:
        """What the run says of itself."""
        found: dict[str, Any] = read_json(self.folder / "manifest.json")
        return found

    def append(self, name: str, line: Mapping[str, object]) -> None:
        """Append one line to a JSONL file of the run."""
        with (self.folder / name).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")

    def lines(self, name: str) -> list[dict[str, Any]]:
        """Return the whole lines of a JSONL file of the run; a last line cut short by a crash is not one."""
        path = self.folder / name
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def rewind(self, step: int) -> None:
        """Forget what the step-by-step files say of the steps after `step`."""
        for name in ("log.jsonl", "clock.jsonl", "dev.jsonl", "samples.jsonl"):
            if (self.folder / name).is_file():
                kept = [line for line in self.lines(name) if line["step"] <= step]
                write_text(self.folder / name, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept))

    def finish(self, **facts: object) -> None:
        """Mark the run as finished and add what it found out."""
        write_json(self.folder / "manifest.json", {**self.manifest, **facts, "status": "finished"})


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder for this process; the lock ends with the process, however that ends.

    Raises:
        RunError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise RunError(
                f"{folder}: process {file.read().strip() or '?'} is at work in this folder; wait for it or stop it"
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _sync(path: Path) -> None:
    """Have the file or folder on the disk, not only in memory, so that a power cut leaves no half-written one."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def checksum(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
