"""What goes together is one key, field by field; what does not is refused by the first field, in words."""

import pytest

from aruntime.wire.compatibility import Compatibility, tokenizer_digest, weights_digest

KEY = Compatibility(
    weights="a" * 64,
    tokenizer="b" * 64,
    dtype="torch.float32",
    cache_dtype="torch.bfloat16",
    layout="blocks of 16 tokens, 2 layers, 2 heads of 16",
    rope="default 10000.0",
    window="0",
)
SECRET = bytes(32)


def test_equal_keys_go_together() -> None:
    assert KEY.mismatch(KEY.model_copy()) == ""


@pytest.mark.parametrize("field", Compatibility.model_fields)
def test_a_difference_in_any_field_is_told_and_leads_to_another_root(field: str) -> None:
    other = KEY.model_copy(update={field: "0" * 64})
    assert KEY.mismatch(other).startswith(f"{field}: ")
    assert "0" * 12 in KEY.mismatch(other)
    assert KEY.root(SECRET) != other.root(SECRET)


def test_who_has_not_the_secret_finds_no_root() -> None:
    assert KEY.root(SECRET) != KEY.root(b"1" * 32)
    assert KEY.root(SECRET) == KEY.root(SECRET)


def test_weights_and_tokenizer_are_digests_of_their_own_files_whatever_their_order() -> None:
    files = {"model.safetensors": "1", "tokenizer.json": "2", "chat_template.jinja": "3", "README.md": "4"}
    shuffled = dict(reversed(files.items()))
    assert weights_digest(files) == weights_digest(shuffled)
    assert tokenizer_digest(files) == tokenizer_digest(shuffled)
    for name, weights_differ, tokenizer_differs in (
        ("model.safetensors", True, False),
        ("tokenizer.json", False, True),
        ("chat_template.jinja", False, True),
        ("README.md", False, False),
    ):
        changed = files | {name: "9"}
        assert (weights_digest(files) != weights_digest(changed)) == weights_differ
        assert (tokenizer_digest(files) != tokenizer_digest(changed)) == tokenizer_differs
