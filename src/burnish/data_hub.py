"""Data sets on the Hugging Face hub: the table files of one split, fetched once and then read from the cache."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from burnish.errors import DataError
from burnish.table_files import ENDINGS

PREFIX = "hub:"

_NAME = re.compile(r"(?P<name>[\w.-]+(?:/[\w.-]+)?)(?::(?P<split>[\w.-]+(?:/[\w.-]+)*))?")
_CONVERTED = "refs/convert/parquet"  # the branch where the hub keeps Parquet copies of other formats


def split_name(address: str) -> tuple[str, str]:
    """Return data set and split of `hub:owner/name:split`; the split is `train` where none is named.

    Raises:
        DataError: the address has another form.
    """
    found = _NAME.fullmatch(address.removeprefix(PREFIX))
    if not address.startswith(PREFIX) or not found or ".." in address:
        raise DataError(f"{address}: an address on the hub is hub:owner/name or hub:owner/name:split")
    return found["name"], found["split"] or "train"


def fetch_split(address: str) -> list[Path]:
    """Return the files of one split in the order of their names; no code of the data set is fetched or run.

    A split is the files whose name holds it as a word of its own: `train.csv`, `data/train-00000-of-00002.parquet`,
    `train/part1.jsonl`. It may be written with its folder (`en/train`) or as one file (`data/train.csv`). Where the
    data set has no such file, the hub's own Parquet copy of it is taken.

    Raises:
        DataError: there is no such data set or split, several files could be meant, the hub cannot be reached, or
            huggingface_hub is not installed.
    """
    name, split = split_name(address)
    root = _snapshot(address, name, _patterns(split), revision=None)
    files = _matching(root, split)
    reason = ""
    if not files:
        try:
            root = _snapshot(address, name, _patterns(split), revision=_CONVERTED)
            files = _matching(root, split)
        except DataError as error:
            reason = ", and its Parquet copy cannot be had: " + str(error).removeprefix(f"{address}: ")
    if not files:
        raise DataError(
            f"{address}: this data set has no table file for the split {split!r} ({', '.join(ENDINGS)}){reason}"
        )
    return _of_one_kind(address, root, files)


def _snapshot(address: str, name: str, patterns: list[str], *, revision: str | None) -> Path:
    """Return the folder in the cache with the files of these patterns.

    Raises:
        DataError: the hub does not have the data set or cannot be reached, or huggingface_hub is not installed.
    """
    try:
        from huggingface_hub import snapshot_download, utils
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError as error:
        raise DataError(
            f"{address}: reading from the hub needs huggingface_hub: pip install huggingface_hub"
        ) from error
    try:
        with _without_bars(utils):
            return Path(snapshot_download(name, repo_type="dataset", revision=revision, allow_patterns=patterns))
    except (OSError, ValueError, HfHubHTTPError) as error:
        raise DataError(
            f"{address}: the hub did not give this data set: {_first_line(error)}. Once fetched, it is read without a "
            "network; or put its files into a folder, and name them"
        ) from error


def _patterns(split: str) -> list[str]:
    """Return which files to fetch."""
    if Path(split).suffix in ENDINGS:
        return [split]
    stems = (split, f"{split}[/_.-]*", f"*[/_.-]{split}", f"*[/_.-]{split}[/_.-]*")
    return [stem + ending for stem in stems for ending in ENDINGS]


def _matching(root: Path, split: str) -> list[Path]:
    """Return the fetched files of the split; other splits may have been fetched before."""
    word = re.compile(rf"(?<![^/_.-]){re.escape(split)}(?![^/_.-])")
    found = [path for path in sorted(root.rglob("*")) if path.suffix in ENDINGS and path.is_file()]
    return [path for path in found if word.search(path.relative_to(root).as_posix())]


def _of_one_kind(address: str, root: Path, files: list[Path]) -> list[Path]:
    """Return the files if they are the parts of one table.

    Raises:
        DataError: they stand in several folders or have several endings.
    """
    kinds = {(path.parent, path.suffix): path.relative_to(root).as_posix() for path in reversed(files)}
    if len(kinds) > 1:
        name, _ = split_name(address)
        listed = sorted(kinds.values())
        raise DataError(
            f"{address}: several tables could be meant ({', '.join(listed[:8])}{', …' if len(listed) > 8 else ''}); "
            f"name the folder or the file: {PREFIX}{name}:{listed[0]}"
        )
    return files


@contextmanager
def _without_bars(utils: Any) -> Iterator[None]:
    """Let the library draw no progress bars."""
    drawn = not utils.are_progress_bars_disabled()
    utils.disable_progress_bars()
    try:
        yield
    finally:
        if drawn:
            utils.enable_progress_bars()


def _first_line(error: BaseException) -> str:
    """Return the first line of a library's message, or the name of its error where it has none."""
    text = str(error).strip()
    return text.splitlines()[0].rstrip(".") if text else type(error).__name__
