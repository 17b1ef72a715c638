"""Which states make a checkpoint's vectors is read of its files."""

import json
from pathlib import Path

import pytest

from aruntime.model.embedding import Embedding
from aruntime.queue.records import Pooling


def checkpoint(folder: Path, **modes: bool) -> Path:
    (folder / "config.json").write_text(json.dumps({"hidden_size": 48}))
    if modes:
        (folder / "1_Pooling").mkdir()
        pooling = {"word_embedding_dimension": 48, **{f"pooling_mode_{name}": on for name, on in modes.items()}}
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return folder


def test_a_decoder_gives_the_last_token_s_state(tmp_path: Path) -> None:
    assert Embedding.from_folder(checkpoint(tmp_path)) == Embedding(Pooling.LAST, 48)


def test_sentence_transformers_says_otherwise(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, cls_token=False, mean_tokens=True, lasttoken=False)
    assert Embedding.from_folder(folder) == Embedding(Pooling.MEAN, 48)


@pytest.mark.parametrize("modes", [{"cls_token": True}, {"mean_tokens": True, "max_tokens": True}])
def test_another_pooling_is_no_reason_to_refuse_a_model_but_its_vectors(tmp_path: Path, modes: dict[str, bool]) -> None:
    embedding = Embedding.from_folder(checkpoint(tmp_path, **modes))
    assert (embedding.pooling, embedding.refusal) == (
        Pooling.NONE,
        "its vectors are not the mean or the last of its states",
    )


def test_layers_behind_the_pooling_are_not_left_out_in_silence(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, mean_tokens=True)
    (folder / "2_Dense").mkdir()
    assert "dense" in Embedding.from_folder(folder).refusal
