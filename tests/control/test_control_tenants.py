"""tenants.toml: what it may say, who may read it, and what stays the same when it is read again."""

import os
import re
from pathlib import Path

import pytest

from aruntime.control.tenants import Tenants, TenantsRefused, read_tenants
from aruntime.queue.columns import TENANTS_MAX
from aruntime.queue.post import MESSAGE_BYTES_MAX, enclose, read_enclosure
from aruntime.wire.control import decode_tenants, encode, encode_tenants

ACME, UMBRELLA = "a" * 64, "b" * 64
FULL = f"""
[admin]
keys = ["sha256:{"c" * 64}"]
[tenants.acme]
keys = ["sha256:{ACME}"]
weight = 2
requests_per_minute = 600
tokens_per_minute = 100_000
sequences_max = 16
cache_max = 0.5
cache_reserved = 0.1
tokens_per_s_reserved = 100.0
prefix_group = "family"
[tenants.umbrella]
keys = ["sha256:{UMBRELLA}"]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "tenants.toml", FULL)


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def tenant(name: str, *lines: str, keys: str = "[]") -> str:
    return "\n".join([f"[tenants.{name}]", f"keys = {keys}", *lines, ""])


def test_a_file_becomes_tenants_with_their_terms(file: Path) -> None:
    tenants = Tenants(file)
    assert tenants.listed.tenants is not None
    acme, umbrella = tenants.listed.tenants
    assert (acme.index, acme.name, acme.keys, acme.weight) == (1, "acme", [ACME], 2.0)
    assert (acme.requests_per_minute, acme.tokens_per_minute, acme.sequences_max) == (600, 100_000, 16)
    assert (acme.cache_max, acme.cache_reserved, acme.tokens_per_s_reserved) == (0.5, 0.1, 100.0)
    assert (umbrella.index, umbrella.weight, umbrella.requests_per_minute, umbrella.cache_max) == (2, 1.0, None, 1.0)
    assert umbrella.prefix_group == umbrella.index
    assert tenants.listed.admin_keys == ["c" * 64]
    assert [terms.index for terms in tenants.terms.tenants] == [1, 2]
    assert tenants.terms.tenants[0].weight == 2.0


def test_engines_are_told_no_key_and_no_name(file: Path) -> None:
    said = encode(Tenants(file).terms).decode()
    assert not re.search(r"[0-9a-f]{64}|acme|keys", said)


def test_without_a_file_nobody_is_asked_for_a_key() -> None:
    tenants = Tenants()
    assert (tenants.listed.tenants, tenants.listed.admin_keys, tenants.terms.tenants) == (None, [], [])
    assert not tenants.has_changed()
    tenants.read()


def test_a_file_without_tenants_lets_nobody_in(tmp_path: Path) -> None:
    assert Tenants(write(tmp_path / "t", "")).listed.tenants == []


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o602, 0o610, 0o644])
def test_a_file_that_others_may_read_or_write_is_refused(file: Path, mode: int) -> None:
    file.chmod(mode)
    with pytest.raises(TenantsRefused, match=rf"may read or write it \(mode {mode:o}\): chmod 600"):
        read_tenants(file)


KEY = f'["sha256:{ACME}"]'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tenants = 1", "tenants"),
        ("[tenants]\nacme = 'x'", "tenants.acme"),
        ("[tenants.acme]\nweight = 1", "tenants.acme.keys: Field required"),
        (tenant("acme", keys='["art-secret"]'), "tenants.acme.keys.0"),
        (tenant("acme", keys='["sha256:abc"]'), "tenants.acme.keys.0"),
        (tenant("acme", keys=f'["sha256:{"A" * 64}"]'), "tenants.acme.keys.0"),
        (tenant("acme", keys=str([f"sha256:{i:064x}" for i in range(9)])), "tenants.acme.keys"),
        (tenant("acme", keys=f'["sha256:{ACME}", "sha256:{ACME}"]'), "acme: one of its keys stands here twice"),
        (tenant("a", keys=KEY) + tenant("b", keys=KEY), "b: one of its keys stands here twice"),
        (f"[admin]\nkeys = {KEY}\n" + tenant("a", keys=KEY), "a: one of its keys stands here twice"),
        (tenant("acme", "weights = 1"), "tenants.acme.weights: Extra inputs"),
        (tenant("acme", "weight = 0"), "tenants.acme.weight"),
        (tenant("acme", "weight = inf"), "tenants.acme.weight"),
        (tenant("acme", "weight = nan"), "tenants.acme.weight"),
        (tenant("acme", "weight = true"), "tenants.acme.weight"),
        (tenant("acme", "weight = '1'"), "tenants.acme.weight"),
        (tenant("acme", "requests_per_minute = 0"), "tenants.acme.requests_per_minute"),
        (tenant("acme", "tokens_per_minute = 1.5"), "tenants.acme.tokens_per_minute"),
        (tenant("acme", "sequences_max = -1"), "tenants.acme.sequences_max"),
        (tenant("acme", "cache_max = 1.1"), "tenants.acme.cache_max"),
        (tenant("acme", "cache_max = 0"), "tenants.acme.cache_max"),
        (tenant("acme", "cache_max = 0.1", "cache_reserved = 0.2"), "acme: cache_reserved is more than cache_max"),
        (tenant("a", "cache_reserved = 0.6") + tenant("b", "cache_reserved = 0.6"), "adds up to 1.2, at most 1"),
        (tenant("acme", "prefix_group = 'No Name'"), "tenants.acme.prefix_group"),
        (tenant("none"), "cannot name a tenant"),
        (tenant("Acme"), "cannot name a tenant"),
        (tenant('"a b"'), "cannot name a tenant"),
        (tenant('"../a"'), "cannot name a tenant"),
        ("".join(tenant(f"t{i}") for i in range(TENANTS_MAX)), "at most 255"),
        ("[admin]\nkey = 1", "admin"),
        ("[admin]", "admin.keys: Field required"),
        ("[tenants", "is not TOML"),
        ("#" * 600_000, "longer than"),
    ],
)
def test_a_wrong_file_is_refused_by_name_and_its_values_are_not_told(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(TenantsRefused, match=re.escape(words)) as refusal:
        Tenants(write(tmp_path / "tenants.toml", text))
    assert "art-secret" not in str(refusal.value)
    assert ACME not in str(refusal.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TenantsRefused, match="cannot be read: No such file"):
        Tenants(tmp_path / "tenants.toml")


def indices(tenants: Tenants) -> dict[str, int]:
    return {entry.name: entry.index for entry in tenants.listed.tenants or ()}


def test_a_name_keeps_its_index_and_nobody_else_ever_gets_it(file: Path) -> None:
    tenants = Tenants(file)
    write(file, tenant("umbrella", "cache_reserved = 0.5") + tenant("zeta"))
    tenants.read()
    assert indices(tenants) == {"umbrella": 2, "zeta": 3}
    gone = tenants.terms.tenants[0]
    assert (gone.index, gone.cache_reserved, gone.weight, gone.prefix_group) == (1, 0.0, 1.0, 1)
    assert tenants.terms.tenants[1].cache_reserved == 0.5
    write(file, tenant("omega") + tenant("acme"))
    tenants.read()
    assert indices(tenants) == {"omega": 4, "acme": 1}


def test_more_names_than_there_are_indices_are_refused_and_change_nothing(tmp_path: Path) -> None:
    file = write(tmp_path / "t", "".join(tenant(f"t{i}") for i in range(TENANTS_MAX - 1)))
    tenants = Tenants(file)
    assert max(indices(tenants).values()) == TENANTS_MAX - 1
    before = tenants.listed
    write(file, tenant("new"))
    with pytest.raises(TenantsRefused, match="since the server started"):
        tenants.read()
    assert tenants.listed is before


def groups(tenants: Tenants) -> dict[str, int]:
    return {entry.name: entry.prefix_group for entry in tenants.listed.tenants or ()}


def test_a_prefix_group_is_nobody_else_s(tmp_path: Path) -> None:
    shared, other = "prefix_group = 'g'", "prefix_group = 'h'"
    file = write(tmp_path / "t", tenant("a", shared) + tenant("b") + tenant("c", shared) + tenant("d", other))
    tenants = Tenants(file)
    first = groups(tenants)
    assert first["a"] == first["c"]
    assert len(set(first.values()) | {0}) == 4  # b's own, g, h, and that of nobody
    assert first["b"] < TENANTS_MAX <= min(first["a"], first["d"])
    write(file, tenant("a") + tenant("c", other))
    tenants.read()
    assert groups(tenants) == {"a": 1, "c": first["d"]}
    write(file, tenant("a", shared))
    tenants.read()
    assert groups(tenants)["a"] not in first.values()  # nothing is left to find of the group that was given up


def test_a_change_is_seen_once_it_has_stood_still_for_a_look(file: Path) -> None:
    tenants = Tenants(file)
    assert not tenants.has_changed()
    write(file, tenant("a"))
    assert not tenants.has_changed()
    file.write_text(tenant("a") + tenant("b"))
    assert not tenants.has_changed()
    assert tenants.has_changed()
    tenants.read()
    assert not tenants.has_changed()
    other = write(file.with_name("other"), FULL)
    os.replace(other, file)
    assert [tenants.has_changed() for _ in range(3)] == [False, True, True]
    file.chmod(0o644)
    assert [tenants.has_changed() for _ in range(2)] == [False, True]
    with pytest.raises(TenantsRefused):
        tenants.read()
    assert not tenants.has_changed()  # a refusal is told once
    file.unlink()
    assert [tenants.has_changed() for _ in range(2)] == [False, True]


def test_the_largest_file_reaches_front_ends_and_engines(tmp_path: Path) -> None:
    keys = ([f"sha256:{tenant * 8 + key:064x}" for key in range(8)] for tenant in range(TENANTS_MAX - 1))
    terms = ["weight = 123.456789012345", "requests_per_minute = 999999999999", "tokens_per_minute = 999999999999",
             "sequences_max = 1048576", "cache_max = 0.123456789012345", "cache_reserved = 0.0012345678901234",
             "tokens_per_s_reserved = 123456789.012345"]  # fmt: skip
    text = "".join(tenant(f"{i:064}", *terms, f"prefix_group = 'g{i:063}'", keys=str(k)) for i, k in enumerate(keys))
    tenants = Tenants(write(tmp_path / "t", text))
    assert len(encode(tenants.terms)) < MESSAGE_BYTES_MAX
    fd = enclose(encode_tenants(tenants.listed))
    with pytest.raises(PermissionError):
        os.write(fd, b"x")
    assert decode_tenants(read_enclosure(fd)) == tenants.listed
    os.close(fd)


def test_an_enclosure_has_a_bound_and_is_a_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at most"):
        enclose(b"x" * ((1 << 20) + 1))
    (tmp_path / "long").write_bytes(b"x" * ((1 << 20) + 1))
    with (tmp_path / "long").open("rb") as file, pytest.raises(ValueError, match="longer"):
        read_enclosure(file.fileno())
    read, write_end = os.pipe()
    with pytest.raises(OSError, match="seek"):
        read_enclosure(read)
    os.close(read)
    os.close(write_end)


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b'{"tenants":[{"index":0,"name":"a","prefix_group":1}]}', b'{"admin_keys":["secret"]}',
     b'{"tenants":[{"index":256,"name":"a","prefix_group":1}]}', b'{"more":1}'],
)  # fmt: skip
def test_what_is_no_list_of_tenants_is_a_value_error_that_tells_no_value(data: bytes) -> None:
    with pytest.raises(ValueError, match="control message") as refusal:
        decode_tenants(data)
    assert "secret" not in str(refusal.value)
