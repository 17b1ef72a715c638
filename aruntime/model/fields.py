"""Reads the JSON files of a checkpoint folder: bounded, and every value checked before it is used."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class CheckpointRefused(ValueError):
    """A checkpoint that cannot be served; the message says why, in words for the one who installed it."""


class Fields:
    """The fields of one JSON object. A field that is null counts as absent; a boolean is no number.

    Every reader raises CheckpointRefused, which names the file, the field and what was wanted. Without a `default` the
    field must be there.
    """

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self._values = values
        self.where = where

    @classmethod
    def from_file(cls, file: Path, bytes_max: int = 1 << 20) -> "Fields":
        """The object in `file`, which must not be longer than `bytes_max`."""
        try:
            with file.open("rb") as stream:
                data = stream.read(bytes_max + 1)
            values = json.loads(data) if len(data) <= bytes_max else None
        except OSError as error:
            raise CheckpointRefused(f"{file.name} cannot be read: {error.strerror}") from error
        except (ValueError, RecursionError) as error:
            raise CheckpointRefused(f"{file.name} is not JSON") from error
        if not isinstance(values, dict):
            raise CheckpointRefused(f"{file.name} is not a JSON object of at most {bytes_max} bytes")
        return cls(values, file.name)

    def __contains__(self, name: str) -> bool:
        return self._values.get(name) is not None

    def says(self, name: str) -> bool:
        """Whether the field is written, be it as null."""
        return name in self._values

    def names(self) -> list[str]:
        """The names of all fields, in order."""
        return sorted(self._values)

    def whole(self, name: str, low: int, high: int, default: int | None = None) -> int:
        """An integer from `low` to `high`."""
        value = self._get(name, default)
        if type(value) is not int or not low <= value <= high:
            raise self.refusal(name, f"an integer from {low} to {high}")
        return value

    def wholes(self, name: str, low: int, high: int) -> tuple[int, ...]:
        """One integer or a list of at most 64, all from `low` to `high`; () when absent."""
        value = self._get(name, [])
        values = value if isinstance(value, list) else [value]
        if len(values) > 64 or not all(type(each) is int and low <= each <= high for each in values):
            raise self.refusal(name, f"integers from {low} to {high}")
        return tuple(values)

    def real(self, name: str, low: float, high: float, default: float | None = None) -> float:
        """A number from `low` to `high`."""
        value = self._get(name, default)
        if type(value) not in (int, float) or not low <= value <= high:
            raise self.refusal(name, f"a number from {low:g} to {high:g}")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        value = self._get(name, default)
        if type(value) is not bool:
            raise self.refusal(name, "true or false")
        return value

    def text(self, name: str, default: str | None = None) -> str:
        value = self._get(name, default)
        if not isinstance(value, str):
            raise self.refusal(name, "a text")
        return value

    def texts(self, name: str, count_max: int) -> list[str]:
        """A list of at most `count_max` texts."""
        value = self._get(name, None)
        if not isinstance(value, list) or len(value) > count_max or not all(isinstance(each, str) for each in value):
            raise self.refusal(name, f"a list of at most {count_max} texts")
        return value

    def object(self, name: str) -> "Fields":
        """A nested object; an empty one when absent."""
        value = self._get(name, {})
        if not isinstance(value, dict):
            raise self.refusal(name, "an object")
        return Fields(value, f"{self.where} {name}")

    def refusal(self, name: str, want: str) -> CheckpointRefused:
        return CheckpointRefused(f"{self.where}: {name}: want {want}, got {_shown(self._values.get(name))}")

    def _get(self, name: str, default: Any) -> Any:
        value = self._values.get(name)
        if value is None and default is None:
            raise CheckpointRefused(f"{self.where}: {name} is missing")
        return default if value is None else value


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:60] + "..."
