"""The source text keeps its own rules: floors, homes of third parties, and words that must not appear.

A file imports from its own folder or from a lower floor; never sideways, never up. Import linters do not see Cython, so
`.pyx` and `.pxd` are read here line by line.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent

FLOORS = {
    "base": 0,
    "h2": 0,
    "queue": 1,
    "wire": 2,
    "cache": 2,
    "admission": 3,
    "scheduler": 3,
    "model": 3,
    "engine": 4,
    "control": 5,
    "http": 6,
    "cli": 7,
    "asgi": 7,
}

# Third parties, and the only rooms that may import them.
HOMES = {
    "starlette": {"http", "asgi"},
    "hypercorn": {"cli", "h2"},
    "triton": {"aruntime_kernels"},
    "onnxruntime": {"engine"},
    "torch": {"aruntime_kernels", "model", "engine"},
    "tokenizers": {"model"},
    "llguidance": {"model"},
    "safetensors": {"model"},
    "jinja2": {"model"},
}

# What has gone wrong in servers of this kind: deserialisation, code from a model folder.
FORBIDDEN = re.compile(
    r"\b(import\s+(pickle|dill|marshal|shelve|cloudpickle)|from\s+(pickle|dill|marshal|shelve|cloudpickle)\b"
    r"|torch\.load\b|yaml\.load\b|trust_remote_code\s*=\s*True|(?<![\w.])eval\(|(?<![\w.])exec\()"
)

_CYTHON_IMPORT = re.compile(r"^\s*(?:from\s+([\w.]+)\s+c?import|c?import\s+([\w.]+))", re.MULTILINE)

SOURCES = sorted(
    path
    for folder in ("aruntime", "kernels")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in {".py", ".pyi", ".pyx", ".pxd"}
)
HEADERS = sorted((ROOT / "csrc").rglob("*.[ch]pp"))


def imports(path: Path) -> Iterator[str]:
    """The dotted modules that a file imports, wherever in it the import stands."""
    text = path.read_text()
    if path.suffix in {".pyx", ".pxd"}:
        yield from (match[1] or match[2] for match in _CYTHON_IMPORT.finditer(text))
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (
                [f"{node.module}.{name.name}" for name in node.names]
                if node.module == "aruntime"
                else [node.module or ""]
            )


def room(path: Path) -> str:
    """The room a file belongs to: a folder of aruntime, a top-level module of it, or aruntime_kernels."""
    parts = path.relative_to(ROOT).parts
    return "aruntime_kernels" if parts[0] == "kernels" else path.stem if len(parts) == 2 else parts[1]


def test_every_import_goes_to_the_same_room_or_to_a_lower_floor() -> None:
    wrong = []
    for path in SOURCES:
        own = room(path)
        for module in imports(path):
            first, _, rest = module.partition(".")
            if first != "aruntime" or not rest:
                continue
            other = rest.split(".")[0]
            if own == "aruntime_kernels" or (other in FLOORS and other != own and FLOORS[other] >= FLOORS.get(own, 0)):
                wrong.append(f"{path.relative_to(ROOT)} imports {module}")
    assert not wrong, "\n".join(wrong)


def test_third_parties_stay_in_their_homes() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in SOURCES
        for module in imports(path)
        if (home := HOMES.get(module.split(".")[0])) is not None and room(path) not in home
    ]
    assert not wrong, "\n".join(wrong)


def test_headers_know_neither_python_nor_torch() -> None:
    wrong = [path.name for path in HEADERS if re.search(r"#include\s*[<\"](Python|torch|ATen)", path.read_text())]
    assert HEADERS
    assert not wrong


def test_nothing_deserialises_objects_or_runs_code_from_a_model_folder() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in SOURCES
        if path.suffix != ".pxd"
        for match in FORBIDDEN.finditer(path.read_text())
    ]
    assert not wrong, "\n".join(wrong)


def test_nothing_is_left_to_be_done_later() -> None:
    marker = re.compile(r"\b(TODO|FIXME|XXX|NotImplementedError)\b")
    wrong = [str(path.relative_to(ROOT)) for path in [*SOURCES, *HEADERS] if marker.search(path.read_text())]
    assert not wrong


def test_every_extension_has_its_types_beside_it() -> None:
    wrong = [str(p.relative_to(ROOT)) for p in SOURCES if p.suffix == ".pyx" and not p.with_suffix(".pyi").exists()]
    assert not wrong


def test_every_file_says_what_it_is_in_its_first_lines() -> None:
    wrong = []
    for path in [*SOURCES, *HEADERS]:
        if path.suffix in {".pyi", ".pxd"} or (path.suffix == ".cpp" and path.with_suffix(".hpp").exists()):
            continue  # its neighbour says it
        opening = [line for line in path.read_text().splitlines()[:4] if not line.startswith("# cython:")]
        if not opening or not opening[0].startswith(('"""', "//", 'r"""')):
            wrong.append(str(path.relative_to(ROOT)))
    assert not wrong


def test_the_check_finds_what_it_looks_for() -> None:
    assert FORBIDDEN.search("import pickle")
    assert FORBIDDEN.search("model = torch.load(path)")
    assert not FORBIDDEN.search("re.compile(x); retrieval(y)")
    assert [m[1] or m[2] for m in _CYTHON_IMPORT.finditer("from aruntime.http cimport app\ncimport torch\n")] == [
        "aruntime.http",
        "torch",
    ]
