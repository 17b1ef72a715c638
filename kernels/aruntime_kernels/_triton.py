"""Triton where it is installed; without it the package still imports, and everything but a launch works."""

from collections.abc import Callable
from typing import Any

__all__ = ["OPTIONS", "jit", "tl", "triton"]

try:
    import triton
    import triton.language as tl

    jit = triton.jit
    # fp contraction is named, not left to Triton's default, which has changed between releases.
    OPTIONS: dict[str, Any] = {"enable_fp_fusion": True}
except ImportError:  # the extra "gpu" is not installed

    class _Absent:
        """Stands for triton and its language in annotations and default arguments."""

        def __getattr__(self, name: str) -> Any:
            return object()

        def cdiv(self, a: int, b: int) -> int:
            return -(-a // b)

        def next_power_of_2(self, n: int) -> int:
            return 1 << (n - 1).bit_length()

    triton = tl = _Absent()
    OPTIONS = {}

    class _Missing:
        """A kernel that cannot be launched."""

        def __getitem__(self, grid: object) -> Any:
            raise ModuleNotFoundError("a GPU needs triton: pip install 'aruntime[gpu]'")

    def jit(function: Callable[..., Any] | None = None, **options: object) -> Any:
        return _Missing() if function else lambda kernel: _Missing()
