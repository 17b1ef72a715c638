"""Build the Cython extensions; everything else about the package stands in pyproject.toml.

Every `.pyx` below `aruntime/` and `kernels/` becomes one extension over the C++20 headers of `csrc/`; `cpu.pyx` takes
in the sources of `csrc/cpu/`, which name their own instruction sets.
"""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

ROOT = Path(__file__).parent
COMPILE = ["-std=c++20", "-O3", "-g1", "-fvisibility=hidden", "-Wall", "-Wextra", "-Wno-unused-function", "-Wno-psabi"]


def extension(source: Path) -> Extension:
    """The extension of one `.pyx`, named by its place."""
    beside = Path("csrc/cpu").glob("*.cpp") if source.stem == "cpu" else []
    parts = source.with_suffix("").parts
    return Extension(
        ".".join(parts[1:] if parts[0] == "kernels" else parts),
        [str(source), *sorted(map(str, beside))],
        include_dirs=["csrc"],
        language="c++",
        extra_compile_args=COMPILE,
        depends=[str(header) for header in Path("csrc").rglob("*.hpp")],
    )


os.chdir(ROOT)
sources = sorted([*Path("aruntime").rglob("*.pyx"), *Path("kernels").rglob("*.pyx")])
setup(
    ext_modules=cythonize(
        [extension(source) for source in sources],
        include_path=[".", "kernels"],
        nthreads=os.cpu_count() or 1,
        compiler_directives={"language_level": 3, "embedsignature": True},
    ),
    options={"build_ext": {"parallel": os.cpu_count() or 1}},
)
