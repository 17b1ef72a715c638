"""The texts of the demo model, and the many ways in which its questions are asked.

Files in corpus/ hold entries, separated by empty lines:

    T: a canary rollout | a canary       terms that the answer explains; P: the same in the plural
    Q: How does a canary rollout work?   a question with the same answer
    A: A canary rollout is …             the answer; several lines are equally good answers

dialogues.txt holds conversations (U: user, B: model), system.txt one system prompt a line. Every random choice comes
from the `random.Random` that is passed in.
"""

import random
import zlib
from dataclasses import dataclass, field
from pathlib import Path

FOLDER = Path(__file__).parent / "corpus"
Message = dict[str, str]

SINGULAR = (
    "What is {0}?", "What is {0}?", "What's {0}?", "What exactly is {0}?", "What does {0} mean?",
    "What is meant by {0}?", "Can you tell me what {0} is?", "Do you know what {0} is?", "Please tell me what {0} is.",
    "Tell me what {0} is.", "I would like to know what {0} is.", "In one sentence, what is {0}?", "So what is {0}?",
    "And what is {0}?",
)  # fmt: skip
PLURAL = (
    "What are {0}?", "What are {0}?", "What exactly are {0}?", "What do {0} mean?", "What is meant by {0}?",
    "Can you tell me what {0} are?", "Do you know what {0} are?", "Please tell me what {0} are.", "So what are {0}?",
)  # fmt: skip
EITHER = (
    "Explain {0}.", "Explain {0} to me.", "Please explain {0}.", "Can you explain {0}?", "Could you explain {0}?",
    "Tell me about {0}.", "Tell me something about {0}.", "Describe {0}.", "Define {0}.", "How would you define {0}?",
    "What do you know about {0}?", "I want to know about {0}.", "I do not understand {0}.",
    "Give me a definition of {0}.",
    "What can you tell me about {0}?", "{0}?", "{0}", "How would you explain {0} to a colleague?",
    "What does one mean by {0}?", "I have read about {0}. What is it?", "Can you define {0}?",
)  # fmt: skip
BEFORE = (
    "Hi! ", "Hello, ", "Question: ", "Quick question: ", "I have a question. ", "Please help me. ", "Hey, ", "Ok. ",
)  # fmt: skip
AFTER = (" Thanks.", " Please be brief.", " Please answer in one sentence.", " Thank you!", " I am new to this.")


@dataclass
class Entry:
    """One fact: how it is asked for, and what is answered. `held_out` questions are never trained on."""

    name: str
    answers: list[str] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)
    held_out: list[str] = field(default_factory=list)


def read_entries() -> dict[str, list[Entry]]:
    """The entries of each file, by the file's stem."""
    files = sorted(file for file in FOLDER.glob("*.txt") if file.stem not in ("dialogues", "system"))
    return {file.stem: [_entry(block) for block in _blocks(file)] for file in files}


def read_dialogues() -> list[list[Message]]:
    roles = {"U": "user", "B": "assistant"}
    return [
        [{"role": roles[line[0]], "content": line[3:]} for line in block.splitlines()]
        for block in _blocks(FOLDER / "dialogues.txt")
    ]


def read_system_prompts() -> list[str]:
    return (FOLDER / "system.txt").read_text(encoding="utf-8").splitlines()


def disturb(question: str, random_: random.Random) -> str:
    """The question as people type it: other case, no question mark, a word before or after, a slip of the finger."""
    if random_.random() < 0.12:
        question = random_.choice(BEFORE) + question
    if random_.random() < 0.08:
        question += random_.choice(AFTER)
    if random_.random() < 0.35:
        question = question.rstrip("?.!")
    draw = random_.random()
    if draw < 0.25:
        question = question.lower()
    elif draw < 0.31:
        question = question.upper()
    elif draw < 0.36:
        question = question.title()
    if random_.random() < 0.05 and len(question) > 12:
        at = random_.randrange(6, len(question) - 1)
        question = question[:at] + question[at + 1] + question[at] + question[at + 2 :]
    if random_.random() < 0.04:
        question += random_.choice(("??", "!", " ?", "\n", " "))
    return question


def _blocks(file: Path) -> list[str]:
    return [block.strip() for block in file.read_text(encoding="utf-8").split("\n\n") if block.strip()]


def _entry(block: str) -> Entry:
    lines = [(line[0], line[3:].strip()) for line in block.splitlines()]
    entry = Entry(name=lines[0][1].split(" | ")[0], answers=[text for kind, text in lines if kind == "A"])
    asked = [text for kind, text in lines if kind == "Q"]
    generated = [
        question
        for kind, text in lines
        if kind in "TP"
        for term in text.split(" | ")
        for question in _questions(term, SINGULAR if kind == "T" else PLURAL)
    ]
    for question in generated:
        held = zlib.crc32(question.encode()) % 16 == 0
        (entry.held_out if held else entry.questions).append(question)
    # A question that someone wrote counts as much as several that a template wrote.
    entry.questions += asked * max(1, len(entry.questions) // (4 * len(asked) or 1))
    return entry


def _questions(term: str, templates: tuple[str, ...]) -> list[str]:
    bare = term.split(" ", 1)[1] if term.startswith(("a ", "an ", "the ")) else term
    texts = [template.format(term) for template in templates + EITHER]
    texts += [template.format(bare) for template in ("What is {0}?", "{0}", "What does {0} mean?", "Explain {0}")]
    return [text[0].upper() + text[1:] for text in texts]
