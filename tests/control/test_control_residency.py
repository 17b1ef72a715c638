"""Memory is set aside before it is used, never twice, and nobody leaves it in vain."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from aruntime.control.residency import Evict, Granted, Memory, Refused, in_words
from aruntime.model.footprint import Footprint

KEYS = st.sampled_from("abcdef")
BYTES_MAX = 100


def footprint(weight: int, floor: int = 0, cache: int = 0, workspace: int = 0) -> Footprint:
    return Footprint(weight, workspace, floor, max(floor, cache))


def filled(*sizes: int, bytes_max: int = BYTES_MAX) -> Memory[str]:
    """Residents a, b, c, … of these sizes, idle, each used later than the one before."""
    memory = Memory[str](bytes_max)
    for number, size in enumerate(sizes):
        assert memory.reserve("abcdef"[number], footprint(size), float(number)) == Granted(0)
        memory.busy("abcdef"[number], False)
    return memory


def test_the_whole_cache_is_granted_where_there_is_room_and_else_what_is_left() -> None:
    memory = Memory[str](BYTES_MAX)
    assert memory.reserve("a", footprint(10, floor=5, cache=40), 0.0) == Granted(40)
    assert memory.reserve("b", footprint(10, floor=5, cache=40), 0.0) == Granted(40)
    memory.release("a")
    assert memory.reserve("a", footprint(25, floor=5, cache=40), 0.0) == Granted(25)
    assert (memory.bytes_used, memory.bytes_left, memory.bytes_of("a")) == (100, 0, 50)


def test_the_least_recently_used_are_named_and_only_as_many_as_are_needed() -> None:
    memory = filled(30, 30, 30)
    memory.use("a", 10.0)
    assert memory.reserve("d", footprint(20), 11.0) == Evict(["b"])
    assert memory.reserve("d", footprint(60), 11.0) == Evict(["b", "c"])
    assert memory.reserve("d", footprint(95), 11.0) == Evict(["b", "c", "a"])


def test_a_small_one_stays_when_a_larger_one_makes_room_alone() -> None:
    assert filled(5, 90).reserve("c", footprint(50), 9.0) == Evict(["b"])


@pytest.mark.parametrize("hold", ["pin", "busy"])
def test_who_is_pinned_or_busy_stays_and_nobody_leaves_in_vain(hold: str) -> None:
    memory = filled(40, 40)
    getattr(memory, hold)("a", True)
    assert memory.reserve("c", footprint(50), 9.0) == Evict(["b"])
    assert isinstance(memory.reserve("c", footprint(70), 9.0), Refused)


def test_who_is_on_its_way_in_stays() -> None:
    memory = Memory[str](BYTES_MAX)
    memory.reserve("a", footprint(60), 0.0)
    assert isinstance(memory.reserve("b", footprint(60), 1.0), Refused)
    memory.busy("a", False)
    assert memory.reserve("b", footprint(60), 1.0) == Evict(["a"])


def test_nobody_else_leaves_for_room_that_is_being_made() -> None:
    memory = filled(50, 50)
    assert memory.reserve("c", footprint(40), 9.0) == Evict(["a"])
    memory.leave("a")
    assert memory.reserve("c", footprint(40), 9.0) == Evict([])
    assert memory.reserve("c", footprint(90), 9.0) == Evict(["b"])
    memory.release("a")
    assert memory.reserve("c", footprint(40), 9.0) == Granted(0)


def test_a_refusal_says_what_is_needed_what_there_is_and_who_holds_it() -> None:
    memory = filled(3 << 30, 2 << 30, bytes_max=8 << 30)
    memory.pin("a", True)
    memory.busy("b", True)
    told = memory.reserve("c", Footprint(3 << 30, 1 << 29, 1 << 20, 1 << 30), 9.0)
    assert told == Refused(
        "needs 3.501 GiB (3 GiB weights, 512 MiB workspace, 1 MiB cache at least); 3 GiB of 8 GiB are free; "
        "held by a 3 GiB (pinned), b 2 GiB (busy)"
    )


def test_a_refusal_stays_short_however_many_hold_memory() -> None:
    memory = Memory[int](1000)
    for number in range(500):
        memory.reserve(number, footprint(2), 0.0)
    told = memory.reserve(-1, footprint(1), 1.0)
    assert isinstance(told, Refused)
    assert "492 more" in told.reason
    assert len(told.reason) < 400


def test_a_second_reservation_of_the_same_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="a is resident"):
        filled(10).reserve("a", footprint(1), 1.0)


@pytest.mark.parametrize(("count", "words"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 50, "5120 TiB")])
def test_bytes_are_told_in_words(count: int, words: str) -> None:
    assert in_words(count) == words


class Residents(RuleBasedStateMachine):
    """Any order of events, beside a plain model of who is where."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = Memory[str](BYTES_MAX)
        self.used: dict[str, float] = {}
        self.stays: dict[str, set[str]] = {}
        self.now_s = 0.0

    @rule(key=KEYS, weight=st.integers(0, 120), floor=st.integers(0, 30), cache=st.integers(0, 60))
    def reserve(self, key: str, weight: int, floor: int, cache: int) -> None:
        if key in self.used:
            return
        self.now_s += 1
        wanted = footprint(weight, floor, cache)
        left = self.memory.bytes_left
        sizes = {resident: self.memory.bytes_of(resident) for resident in self.used}
        free = [resident for resident in sorted(self.used, key=self.used.__getitem__) if not self.stays[resident]]
        coming = left + sum(sizes[resident] for resident in self.used if "leaves" in self.stays[resident])
        match self.memory.reserve(key, wanted, self.now_s):
            case Granted(cache_bytes):
                assert wanted.cache_bytes_min <= cache_bytes <= wanted.cache_bytes
                assert cache_bytes == min(wanted.cache_bytes, left - wanted.fixed_bytes)
                self.used[key], self.stays[key] = self.now_s, {"busy"}
            case Evict(keys):
                assert left < wanted.bytes_min <= coming + sum(sizes[victim] for victim in keys)
                assert keys == [resident for resident in free if resident in keys]
                for victim in keys:  # without any one of them there is no room
                    assert coming + sum(sizes[other] for other in keys if other != victim) < wanted.bytes_min
                if keys:  # and nobody that was used later than the last would have had to go
                    older = free[: free.index(keys[-1])]
                    assert coming + sum(sizes[resident] for resident in older) < wanted.bytes_min
            case Refused(reason):
                assert coming + sum(sizes[resident] for resident in free) < wanted.bytes_min
                assert "needs" in reason

    @precondition(lambda self: self.used)
    @rule(data=st.data(), flag=st.sampled_from(["busy", "pin"]), value=st.booleans())
    def hold(self, data: st.DataObject, flag: str, value: bool) -> None:
        key = data.draw(st.sampled_from(sorted(self.used)))
        getattr(self.memory, flag)(key, value)
        (self.stays[key].add if value else self.stays[key].discard)(flag)

    @precondition(lambda self: self.used)
    @rule(data=st.data(), what=st.sampled_from(["use", "leave", "release"]))
    def touch(self, data: st.DataObject, what: str) -> None:
        key = data.draw(st.sampled_from(sorted(self.used)))
        self.now_s += 1
        match what:
            case "use":
                self.memory.use(key, self.now_s)
                self.used[key] = self.now_s
            case "leave":
                self.memory.leave(key)
                self.stays[key].add("leaves")
            case _:
                self.memory.release(key)
                del self.used[key], self.stays[key]

    @invariant()
    def what_is_set_aside_fits(self) -> None:
        assert 0 <= self.memory.bytes_used <= BYTES_MAX
        assert self.memory.bytes_used == sum(self.memory.bytes_of(key) for key in self.used)
        assert all(key in self.memory for key in self.used)


TestResidents = Residents.TestCase
TestResidents.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
