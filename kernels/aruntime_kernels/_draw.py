"""A token's share in the draw: an exponential variable that belongs to the request's seed and the token's place.

The draw, all in float32 but for the integers: token `id` has the word w = Philox4x32-10(key, counter)[id % 4], with
key = (seed's low, high 32 bits) and counter = (id // 4, 0, position, 0) (Salmon et al., 2011). Then

    v = min(max(float(w >> 1), 0.5) * 2**-31, 1 - 2**-24)           uniform in (0, 1); 31 bits convert as a signed int
    e = v * (1 + v * (1/2 + v * 1/3)) if v < 2**-6 else -log(1 - v) an exponential variable, -log(1 - v)

The winner has the smallest e / mass, and over a large vocabulary that e is tiny: so it keeps all 31 bits near 0, where
-log(u) with u near 1 has 2**-24 for its step, which shows in the odds of rare tokens. e is never 0 and never infinite.
"""

import torch

from aruntime_kernels._triton import jit, tl


@jit
def exponential(token, seed, position):
    """The variable e of each token; `token` is [groups, 4], aligned to 4."""
    group = tl.min(token, 1) // 4
    zero = group * 0
    a, b, c, d = tl.philox(seed, group, zero, zero + position, zero)
    word = tl.reshape(tl.join(tl.join(a, c), tl.join(b, d)), token.shape)
    uniform = (word >> 1).to(tl.int32).to(tl.float32)
    uniform = tl.minimum(tl.maximum(uniform, 0.5) * 4.656612873077393e-10, 0.9999999403953552)
    near_zero = uniform * (1.0 + uniform * (0.5 + uniform * 0.3333333432674408))
    return tl.where(uniform < 0.015625, near_zero, -tl.log(1.0 - uniform))


def exponential_reference(vocab: int, seed: int, position: int) -> torch.Tensor:
    """The variable e of each token of a vocabulary: [V] float32."""
    ids = torch.arange(vocab)
    counter = torch.stack((ids // 4, ids * 0, ids * 0 + position, ids * 0), -1)
    return exponential_of(philox_reference(seed, counter).gather(-1, (ids % 4)[:, None])[:, 0])


def exponential_of(word: torch.Tensor) -> torch.Tensor:
    """The variable e that a 32-bit word (in int64) stands for."""
    uniform = ((word >> 1).float().clamp(min=0.5) * 2.0**-31).clamp(max=1 - 2.0**-24)
    near_zero = uniform * (1 + uniform * (1 / 2 + uniform * (1 / 3)))
    return torch.where(uniform < 2.0**-6, near_zero, -torch.log(1 - uniform))


def philox_reference(key: int, counter: torch.Tensor) -> torch.Tensor:
    """Philox4x32-10 of each row of `counter` ([..., 4] int64 holding 32-bit words) under the 64-bit `key`."""
    words = list(counter.unbind(-1))
    keys = [key & 0xFFFFFFFF, (key >> 32) & 0xFFFFFFFF]
    for _ in range(10):
        left, right = _wide_multiply(0xD2511F53, words[0]), _wide_multiply(0xCD9E8D57, words[2])
        words = [right[0] ^ words[1] ^ keys[0], right[1], left[0] ^ words[3] ^ keys[1], left[1]]
        keys = [(keys[0] + 0x9E3779B9) & 0xFFFFFFFF, (keys[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return torch.stack(words, -1)


def _wide_multiply(a: int, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """High and low 32 bits of a 32 by 32 bit product, in int64 without overflow."""
    low = a * (b & 0xFFFF)
    high = a * (b >> 16) + (low >> 16)
    return high >> 16, ((high & 0xFFFF) << 16) | (low & 0xFFFF)
