"""Builds and runs the C++ tests of ring, bell and channel: replayed, under the sanitizers, killed, and attacked.

A test that cannot fail proves nothing, so each of them is built once more over a header with one thing weakened, and
must then fail.
"""

import shutil
from pathlib import Path

import pytest
from native import HEADERS, SANITIZE, build, passes, run

CPP = Path(__file__).parent / "cpp"
# What a hostile length would make its reader allocate is more than the rings of these tests can hold.
SMALL = {"ASAN_OPTIONS": "max_allocation_size_mb=8"}
# GCC says that ThreadSanitizer does not see fences. None orders data here; the replay and the model judge them.
THREAD = ("-O1", "-fsanitize=thread", "-Wno-tsan")
REPLAY = ("replay", ("-O1",), "0", "20000")
STRESS = ("stress", THREAD, "100000")
HOSTILE = ("hostile", SANITIZE, "1", "200")

RELAXED = "std::memory_order_relaxed)"
HEAD_RELAXED = f"= header_->head.load({RELAXED}"
RING, BELL, ENDS = "spsc_ring.hpp", "bell.hpp", "ends.hpp"

# What is weakened: the test that must notice, the header, the words there, and what stands there instead.
WEAKENED = {
    "tail not released": (REPLAY, RING, "store(tail_, std::memory_order_release)", f"store(tail_, {RELAXED}"),
    "tail not released, on x86": (STRESS, RING, "store(tail_, std::memory_order_release)", f"store(tail_, {RELAXED}"),
    "tail not acquired": (REPLAY, RING, "tail.load(std::memory_order_acquire)", f"tail.load({RELAXED}"),
    "head not released": (REPLAY, RING, "store(head_, std::memory_order_release)", f"store(head_, {RELAXED}"),
    "head not acquired": (REPLAY, RING, "= header_->head.load(std::memory_order_acquire)", HEAD_RELAXED),
    "no room asked for": (REPLAY, RING, "room_known() < records.size() && room() < records.size()", "false"),
    "no fence before the second look": (REPLAY, BELL, "relaxed);\n    full_fence<Atomic>();", "relaxed);"),
    "no fence before the flag is read": (REPLAY, BELL, "noexcept {\n    full_fence<Atomic>();", "noexcept {"),
    "no second look": (REPLAY, BELL, "if (ring.empty()) return true;", "return true;"),
    "a lying tail believed": (HOSTILE, RING, "lies() ? 0 : tail_ - head_", "tail_ - head_"),
    "a lying head believed": (HOSTILE, RING, "used <= capacity_ ? capacity_ - used : 0", "capacity_ - used"),
    "more cells than published": (HOSTILE, ENDS, " || said.cells > published)", ")"),
    "more than cells": (HOSTILE, ENDS, "said.cells != cells_of(said.prompt_tokens, said.payload_bytes) ||", ""),
    "more result than published": (HOSTILE, ENDS, " && told.cells <= published)", ")"),
    "more result than cells": (HOSTILE, ENDS, "told.cells == result_cells_of(told.bytes) &&", ""),
    "a result judged in place": (
        HOSTILE,
        ENDS,
        "= result.head;",
        "= *reinterpret_cast<ResultHead*>(channel_.results());",
    ),
    "more stop tokens than places": (HOSTILE, ENDS, "said.stop_tokens > kStopTokensMax ||", ""),
    "judged in place": (HOSTILE, ENDS, "= message.head;", "= *reinterpret_cast<SubmitHead*>(channel_.cells());"),
}


def test_no_interleaving_of_20000_seeds_tears_a_message_or_loses_a_wake_up(tmp_path: Path) -> None:
    name, flags, *arguments = REPLAY
    passes(build(CPP / f"{name}.cpp", tmp_path, *flags), *arguments, **SMALL)


@pytest.mark.parametrize("flags", [THREAD, SANITIZE], ids=["thread", "address"])
def test_two_threads_have_no_race_and_ring_at_most_once_a_sleep(tmp_path: Path, flags: tuple[str, ...]) -> None:
    name, _, *arguments = STRESS
    passes(build(CPP / f"{name}.cpp", tmp_path, *flags), *arguments, **SMALL)


def test_a_hostile_peer_is_refused_and_leads_nobody_out_of_the_file(tmp_path: Path) -> None:
    name, flags, *arguments = HOSTILE
    refused = passes(build(CPP / f"{name}.cpp", tmp_path, *flags), *arguments, **SMALL)
    print(f"{refused.strip()} malformed messages refused")


@pytest.mark.slow
@pytest.mark.parametrize("what", WEAKENED)
def test_the_tests_fail_with(tmp_path: Path, what: str) -> None:
    (name, flags, *arguments), header, words, instead = WEAKENED[what]
    shutil.copytree(HEADERS / "queue", tmp_path / "queue")
    text = (tmp_path / "queue" / header).read_text()
    assert text.count(words) == 1
    (tmp_path / "queue" / header).write_text(text.replace(words, instead))
    program = build(CPP / f"{name}.cpp", tmp_path, *flags, "-Wno-error", headers=tmp_path)
    ran = run(program, *arguments, **SMALL)
    assert ran.returncode != 0
    assert "not so" in ran.stderr or "Sanitizer" in ran.stderr or "runtime error" in ran.stderr, ran.stderr


@pytest.mark.slow
def test_1000_kills_leave_whole_messages_and_an_unharmed_peer(tmp_path: Path) -> None:
    # Symbols are bound at start: the steps are those of the code, not of the dynamic linker.
    program = build(CPP / "kills.cpp", tmp_path, "-O2", "-Wl,-z,now")
    killed = {
        "front end, at every instruction of a submit": int(passes(program, "front_end")),
        "engine, at every instruction of a receive and a send": int(passes(program, "engine")),
        "front end, at random": int(passes(program, "random", "400", "1")),
    }
    print(*(f"{count} kills: {what}" for what, count in killed.items()), sep="\n")
    assert sum(killed.values()) >= 1000
