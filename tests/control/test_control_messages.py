"""Control messages survive the way there, and what is not one is refused by name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aruntime.control.lives import STATES
from aruntime.wire import control
from aruntime.wire.control import AttachFrontEnd, Drain, Failed, ReplicaState, decode, encode

COUNT = st.integers(0, 2**63 - 1)
SIZE = st.integers(1, 2**63 - 1)
TEXT = st.text(max_size=64)
NAME = st.text(min_size=1, max_size=64)
SHARE = st.floats(0, 1)
STATE = st.sampled_from(STATES)
PRECISION = st.sampled_from(["checkpoint", "float32", "bfloat16", "float16"])
BOUNDS = st.builds(
    control.Bounds,
    waiting_max=SIZE,
    waiting_tokens_max=SIZE,
    ttft_s=st.floats(0, 100),
    itl_s=st.floats(0, 100),
)
MESSAGE = st.one_of(
    st.builds(
        control.Load,
        replica=COUNT,
        model=NAME,
        version=SIZE,
        folder=NAME,
        device=NAME,
        dtype=PRECISION,
        cache_dtype=PRECISION,
        cache_bytes=SIZE,
        block_tokens=SIZE,
        sequences_max=SIZE,
        step_tokens_max=SIZE,
        bounds=BOUNDS,
        threads=SIZE,
    ),
    st.builds(AttachFrontEnd, front_end=st.integers(1, 63), epoch=SIZE),
    st.builds(Drain, deadline_s=st.floats(allow_nan=False, allow_infinity=False)),
    st.builds(control.SetBounds, bounds=BOUNDS),
    st.builds(control.Stop),
    st.builds(Failed, reason=TEXT),
    st.builds(control.Hello, pid=SIZE),
    st.builds(
        ReplicaState,
        replica=COUNT,
        model=NAME,
        version=SIZE,
        life=st.sampled_from(["ready", "down"]),
        reason=TEXT,
        bounds=st.none() | BOUNDS,
    ),
    st.builds(
        control.ModelState,
        model=NAME,
        callers=st.none() | st.lists(NAME, max_size=3),
        labels=st.dictionaries(NAME, SIZE, max_size=3),
        split=st.none() | st.builds(control.Split, version=SIZE, share=SHARE, mirror=SHARE, salt=COUNT),
        on_demand=st.booleans(),
        required=st.booleans(),
        pending=st.booleans(),
        versions=st.lists(
            st.builds(control.VersionEntry, version=SIZE, state=STATE, created_s=COUNT, reason=TEXT), max_size=3
        ),
    ),
    st.builds(control.RetireReplica, replica=COUNT, epoch=SIZE),
    st.builds(control.Retired, replica=COUNT, epoch=SIZE),
    st.builds(control.Wanted, model=NAME, version=st.none() | SIZE),
    st.builds(control.Act, number=COUNT, actor=NAME, request_id=TEXT),
    st.builds(control.Outcome, number=COUNT, code=NAME, message=TEXT),
    st.builds(control.Probed, passed=st.booleans(), wrong=st.booleans(), questions=COUNT, reason=TEXT),
    st.builds(control.SetTenants),
    st.builds(
        control.SetTerms,
        tenants=st.lists(
            st.builds(
                control.TenantTerms,
                index=st.integers(1, 255),
                weight=st.floats(0.001, 1000),
                cache_max=st.floats(0, 1),
                cache_reserved=st.floats(0, 1),
                tokens_per_s_reserved=st.floats(0, 1e9),
                prefix_group=COUNT,
            ),
            max_size=3,
        ),
    ),
    st.builds(control.DetachReplica, replica=COUNT),
)


@given(message=MESSAGE)
def test_a_message_survives_the_way_there(message: control.Message) -> None:
    assert decode(encode(message), message.descriptors) == message


@given(data=st.binary(max_size=200))
def test_noise_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match="control message"):
        decode(data, 0)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b'{"kind":"format_the_disk"}', "format_the_disk"),
        (b'{"kind":"stop","now":true}', "now"),
        (b'{"kind":"attach_front_end","front_end":64,"epoch":1}', "front_end"),
        (b'{"kind":"attach_front_end","front_end":true,"epoch":1}', "front_end"),
        (b'{"kind":"drain","deadline_s":NaN}', "deadline_s"),
        (b'{"kind":"detach_replica","replica":-1}', "replica"),
        (b'{"kind":"set_terms","tenants":[{"index":256,"prefix_group":0}]}', "tenants.0.index"),
        (b'{"kind":"set_terms","tenants":[{"index":1,"prefix_group":0,"cache_max":1.5}]}', "cache_max"),
    ],
)
def test_what_is_not_a_message_is_refused_by_name(data: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        decode(data, 0)


def test_a_message_without_its_descriptors_is_refused() -> None:
    with pytest.raises(ValueError, match="attach_front_end carries 2 descriptors, got 1"):
        decode(encode(AttachFrontEnd(front_end=1, epoch=1)), 1)


def test_the_longest_reason_fits_into_one_letter() -> None:
    assert len(encode(Failed(reason="\0" * 2000))) < 64 * 1024
