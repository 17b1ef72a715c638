"""What `model.toml` says of batches reaches whoever needs it, and what cannot be is refused."""

import pytest

from aruntime.control.settings import ModelSettings, VersionRefused, parse_settings


def read(text: str) -> ModelSettings:
    return parse_settings(text.encode(), "model.toml", ModelSettings)


def test_a_preferred_size_above_the_largest_batch_is_refused() -> None:
    with pytest.raises(VersionRefused, match="batching: preferred sizes are at most batch_max"):
        read("[batching]\nbatch_max = 8\npreferred = [4, 9]\n")


def test_the_timeout_of_tensor_requests_is_among_what_front_ends_are_told() -> None:
    assert read("[batching]\ntimeout_s = 0.5\n").bounds.timeout_s == 0.5
    assert read("").bounds.timeout_s is None
