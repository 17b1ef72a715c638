# cython: boundscheck=False, wraparound=False
"""The CPU operations for torch tensors: checks here, work in C++ (csrc/cpu) without the GIL.

One signature per operation, shared with the Triton kernels; the file of each operation holds its contract. Activations
are float32, weights and caches float32 or bfloat16. Outputs are passed in and nothing is allocated. Shapes, ids, slots
and lengths are checked before use: ValueError names the tensor and the numbers.
Work is shared by at most `threads()` threads, 1 until `set_threads`. A row's bits depend neither on the number of
threads nor on the other rows.
"""

from libc.stdint cimport int32_t, int64_t, uintptr_t

from torch import bfloat16, float32, int32, int64

cdef enum:
    HEAD_SIZE_MAX = 1024  # of attention; the largest in any published model is 256

cdef object FLOAT32 = float32
cdef object BFLOAT16 = bfloat16
cdef object INT32 = int32
cdef object INT64 = int64

cdef struct View:
    void* data
    int64_t size[3]
    int64_t stride[3]
    Element element


# ---- threads, instruction sets ----

def set_threads(int count) -> None:
    """Compute on `count` threads at most, the caller's included (1 to 256)."""
    if not 1 <= count <= 256:
        raise ValueError(f"threads: want 1 to 256, got {count}")
    with nogil:
        c_set_threads(count)


def threads() -> int:
    """How many threads compute at most."""
    return c_threads()


def instruction_set() -> str:
    """The one in use: "avx512", "avx2" or "portable"."""
    return operations().name.decode()


def use_instruction_set(str name) -> None:
    """Use another than the best, for tests. ValueError when it is unknown or this processor lacks it."""
    if not c_select(name.encode()):
        raise ValueError(f"instruction set {name!r} is unknown or this processor lacks it")


# ---- tensors to views ----

cdef object refusal(object tensor, str name, str want):
    return ValueError(f"{name}: want {want}, got {tensor.dtype} {list(tensor.shape)} "
                      f"with strides {list(tensor.stride())} on {tensor.device}")


cdef int view(object tensor, str name, int dims, View* to) except -1:
    """A float32 or bfloat16 CPU tensor of `dims` dimensions, the last one contiguous."""
    cdef object dtype = tensor.dtype
    to.element = Element.kBfloat16 if dtype is BFLOAT16 else Element.kFloat32
    if dtype is not FLOAT32 and dtype is not BFLOAT16:
        raise refusal(tensor, name, "float32 or bfloat16")
    return view_any(tensor, name, dims, to)


cdef int view_any(object tensor, str name, int dims, View* to) except -1:
    cdef object shape = tensor.shape
    cdef object strides = tensor.stride()
    cdef int i
    if not tensor.is_cpu or len(shape) != dims:
        raise refusal(tensor, name, f"{dims} dimensions on cpu")
    for i in range(dims):
        to.size[i] = (<tuple>shape)[i]
        to.stride[i] = (<tuple>strides)[i]
    if to.stride[dims - 1] != 1 and to.size[dims - 1] > 1:
        raise refusal(tensor, name, "a contiguous last dimension")
    to.data = <void*><uintptr_t>tensor.data_ptr()
    return 0


cdef int matrix(object tensor, str name, Matrix* to) except -1:
    cdef View seen
    if tensor.dtype is not FLOAT32:
        raise refusal(tensor, name, "float32")
    view_any(tensor, name, 2, &seen)
    to.data = <float*>seen.data
    to.rows, to.columns, to.stride = seen.size[0], seen.size[1], seen.stride[0]
    return 0


cdef int heads(object tensor, str name, Heads* to) except -1:
    """[T, H, D], or [T, N] as one head."""
    cdef View seen
    if tensor.dtype is not FLOAT32:
        raise refusal(tensor, name, "float32")
    if tensor.dim() == 2:
        view_any(tensor, name, 2, &seen)
        to.heads, to.size, to.head_stride = 1, seen.size[1], 0
    else:
        view_any(tensor, name, 3, &seen)
        to.heads, to.size, to.head_stride = seen.size[1], seen.size[2], seen.stride[1]
    to.data = <float*>seen.data
    to.tokens, to.token_stride = seen.size[0], seen.stride[0]
    return 0


cdef int cache(object tensor, str name, int64_t kv_heads, int64_t size, Table* to) except -1:
    cdef View seen
    view(tensor, name, 3, &seen)
    if seen.size[1] != kv_heads or seen.size[2] != size or not tensor.is_contiguous():
        raise refusal(tensor, name, f"[slots, {kv_heads}, {size}], contiguous")
    to.data, to.element = seen.data, seen.element
    to.rows, to.columns = seen.size[0], kv_heads * size
    return 0


cdef const int32_t* ints(object tensor, str name, int64_t count) except? NULL:
    """int32 [count]; any count when it is -1."""
    cdef View seen
    if tensor.dtype is not INT32:
        raise refusal(tensor, name, "int32")
    view_any(tensor, name, 1, &seen)
    if count != -1 and seen.size[0] != count:
        raise refusal(tensor, name, f"[{count}]")
    return <const int32_t*>seen.data


cdef const float* floats(object tensor, str name, int64_t count) except? NULL:
    cdef View seen
    if tensor.dtype is not FLOAT32:
        raise refusal(tensor, name, "float32")
    view_any(tensor, name, 1, &seen)
    if seen.size[0] != count:
        raise refusal(tensor, name, f"[{count}]")
    return <const float*>seen.data


cdef int within(const int32_t* values, int64_t count, str name, int64_t low, int64_t high) except -1:
    cdef int64_t bad = first_outside(values, count, low, high)
    if bad >= 0:
        raise ValueError(f"{name}[{bad}]: want {low} to {high - 1}, got {values[bad]}")
    return 0


cdef int same_heads(Heads* a, object tensor, str name, Heads* b) except -1:
    if a.tokens != b.tokens or a.heads != b.heads or a.size != b.size:
        raise refusal(tensor, name, f"[{a.tokens}, {a.heads}, {a.size}]")
    return 0


# ---- linear, embed ----

cdef class PackedWeight:
    """A weight [N, K] (float32 or bfloat16) and its bias [N], packed once for `linear`; they themselves are not kept."""

    def __cinit__(self, weight, bias=None):
        cdef View seen, added
        cdef int64_t i
        view(weight, "weight", 2, &seen)
        if seen.size[0] == 0 or seen.size[1] == 0:
            raise refusal(weight, "weight", "[N, K], neither of them 0")
        self.packed.element = seen.element
        self.packed.outputs, self.packed.inputs = seen.size[0], seen.size[1]
        if bias is not None:
            bias = bias.float()
            floats(bias, "bias", seen.size[0])
        if not map_packed(self.packed):
            raise MemoryError(f"weight: no memory for {self.packed.bytes} bytes")
        if bias is not None:
            view(bias, "bias", 1, &added)
            for i in range(seen.size[0]):
                self.packed.bias[i] = (<float*>added.data)[i]
        with nogil:
            operations().pack(seen.data, seen.stride[0], self.packed)

    def __dealloc__(self):
        unmap_packed(self.packed)

    @property
    def shape(self) -> tuple[int, int]:
        return self.packed.outputs, self.packed.inputs

    @property
    def nbytes(self) -> int:
        """Bytes of memory held, padding and bias included."""
        return self.packed.bytes


def linear(x, PackedWeight weight not None, out) -> None:
    cdef Matrix a, b
    matrix(x, "x", &a)
    matrix(out, "out", &b)
    if a.columns != weight.packed.inputs:
        raise refusal(x, "x", f"[T, {weight.packed.inputs}]")
    if b.rows != a.rows or b.columns != weight.packed.outputs:
        raise refusal(out, "out", f"[{a.rows}, {weight.packed.outputs}]")
    with nogil:
        operations().linear(a, weight.packed, b)


def embed(token_ids, table, out) -> None:
    cdef View seen
    cdef Table rows
    cdef Matrix to
    matrix(out, "out", &to)
    view(table, "table", 2, &seen)
    if seen.size[1] != to.columns or (seen.stride[0] != seen.size[1] and seen.size[0] > 1):
        raise refusal(table, "table", f"[V, {to.columns}], contiguous")
    rows.data, rows.element, rows.rows, rows.columns = seen.data, seen.element, seen.size[0], seen.size[1]
    cdef const int32_t* ids = ints(token_ids, "token_ids", to.rows)
    within(ids, to.rows, "token_ids", 0, rows.rows)
    with nogil:
        operations().embed(ids, rows, to)


# ---- row by row ----

def rms_norm(x, weight, out, *, float eps, residual=None) -> None:
    cdef Heads a, b, r
    cdef Heads* added = NULL
    heads(x, "x", &a)
    heads(out, "out", &b)
    same_heads(&a, out, "out", &b)
    if residual is not None:
        heads(residual, "residual", &r)
        same_heads(&a, residual, "residual", &r)
        added = &r
    cdef const float* scale = floats(weight, "weight", a.size)
    with nogil:
        operations().rms_norm(a, scale, b, eps, added)


def rotary(query, key, positions, cos_sin) -> None:
    cdef Heads q, k
    cdef Matrix table
    heads(query, "query", &q)
    heads(key, "key", &k)
    matrix(cos_sin, "cos_sin", &table)
    if q.size % 2:
        raise refusal(query, "query", "an even head size")
    if k.tokens != q.tokens or k.size != q.size:
        raise refusal(key, "key", f"[{q.tokens}, H, {q.size}]")
    if table.columns != q.size or (table.stride != q.size and table.rows > 1):
        raise refusal(cos_sin, "cos_sin", f"[P, {q.size}], contiguous")
    cdef const int32_t* at = ints(positions, "positions", q.tokens)
    within(at, q.tokens, "positions", 0, table.rows)
    with nogil:
        operations().rotary(q, k, at, table.data)


def silu_mul(gate_up, out) -> None:
    cdef Matrix a, b
    matrix(gate_up, "gate_up", &a)
    matrix(out, "out", &b)
    if b.rows != a.rows or 2 * b.columns != a.columns:
        raise refusal(out, "out", f"[{a.rows}, {a.columns} / 2]")
    with nogil:
        operations().silu_mul(a, b)


# ---- the cache ----

def store_kv(key, value, key_cache, value_cache, slot_mapping) -> None:
    cdef Heads k, v
    cdef Table keys, values
    heads(key, "key", &k)
    heads(value, "value", &v)
    same_heads(&k, value, "value", &v)
    cache(key_cache, "key_cache", k.heads, k.size, &keys)
    cache(value_cache, "value_cache", k.heads, k.size, &values)
    if values.rows != keys.rows:
        raise refusal(value_cache, "value_cache", f"[{keys.rows}, {k.heads}, {k.size}]")
    cdef const int32_t* slots = ints(slot_mapping, "slot_mapping", k.tokens)
    within(slots, k.tokens, "slot_mapping", -1, keys.rows)
    with nogil:
        operations().store_kv(k, keys, slots)
        operations().store_kv(v, values, slots)


def decode_attention(query, key_cache, value_cache, block_tables, context_len, out, *, float scale,
                     int64_t block_tokens, int64_t window=0, partial=None) -> None:
    attend(query, key_cache, value_cache, block_tables, None, context_len, out, scale, block_tokens, window)


def prefill_attention(query, key_cache, value_cache, block_tables, query_start, context_len, out, *, float scale,
                      int64_t block_tokens, int64_t window=0) -> None:
    attend(query, key_cache, value_cache, block_tables, query_start, context_len, out, scale, block_tokens, window)


cdef int attend(object query, object key_cache, object value_cache, object block_tables, object query_start,
                object context_len, object out, float scale, int64_t block_tokens, int64_t window) except -1:
    cdef Attention job
    cdef View tables
    heads(query, "query", &job.query)
    heads(out, "out", &job.out)
    same_heads(&job.query, out, "out", &job.out)
    if job.query.size > HEAD_SIZE_MAX:
        raise refusal(query, "query", f"a head size of at most {HEAD_SIZE_MAX}")
    job.kv_heads = key_cache.shape[1] if key_cache.dim() == 3 else 0
    if job.kv_heads == 0 or job.query.heads % job.kv_heads:
        raise refusal(key_cache, "key_cache", f"[slots, H, {job.query.size}] with H dividing {job.query.heads}")
    cache(key_cache, "key_cache", job.kv_heads, job.query.size, &job.key_cache)
    cache(value_cache, "value_cache", job.kv_heads, job.query.size, &job.value_cache)
    if job.value_cache.rows != job.key_cache.rows or job.value_cache.element != job.key_cache.element:
        raise refusal(value_cache, "value_cache", f"{key_cache.dtype} {list(key_cache.shape)} as key_cache")
    if block_tables.dtype is not INT32:
        raise refusal(block_tables, "block_tables", "int32")
    view_any(block_tables, "block_tables", 2, &tables)
    job.block_tables = <const int32_t*>tables.data
    job.sequences, job.blocks, job.block_stride = tables.size[0], tables.size[1], tables.stride[0]
    job.context_len = ints(context_len, "context_len", job.sequences)
    job.query_start = NULL
    if query_start is not None:
        job.query_start = ints(query_start, "query_start", job.sequences + 1)
    elif job.query.tokens != job.sequences:
        raise refusal(query, "query", f"one token for each of the {job.sequences} sequences")
    if block_tokens < 1 or window < 0:
        raise ValueError(f"want block_tokens >= 1 and window >= 0, got {block_tokens} and {window}")
    job.scale, job.block_tokens, job.window = scale, block_tokens, window
    cdef FaultAt found = c_check(job)
    if found.fault != Fault.kNone:
        raise fault(&job, found)
    with nogil:
        operations().attention(job)
    return 0


cdef object fault(Attention* job, FaultAt found):
    """What `check` found, in words."""
    cdef int64_t s = found.sequence
    if found.fault == Fault.kBlockTable:
        return ValueError(f"block_tables[{s}, {found.index}]: want 0 to {job.key_cache.rows // job.block_tokens - 1}, "
                          f"got {job.block_tables[s * job.block_stride + found.index]}")
    if found.fault == Fault.kQueryStart:
        return ValueError(f"query_start[{s}:{s + 2}]: want it to rise within 0 to {job.query.tokens}, "
                          f"got {job.query_start[s]}, {job.query_start[s + 1]}")
    return ValueError(f"context_len[{s}]: want its number of queries to {job.blocks} blocks of {job.block_tokens}, "
                      f"got {job.context_len[s]}")


# ---- logits ----

def ban(logits, row, token) -> None:
    cdef Matrix to
    matrix(logits, "logits", &to)
    cdef const int32_t* rows = ints(row, "row", -1)
    cdef int64_t count = row.shape[0]
    cdef const int32_t* tokens = ints(token, "token", count)
    within(rows, count, "row", 0, to.rows)
    within(tokens, count, "token", 0, to.columns)
    with nogil:
        c_ban(to, rows, tokens, count)


def bias(logits, row, token, bias) -> None:
    cdef Matrix to
    matrix(logits, "logits", &to)
    cdef const int32_t* rows = ints(row, "row", -1)
    cdef int64_t count = row.shape[0]
    cdef const int32_t* tokens = ints(token, "token", count)
    cdef const float* values = floats(bias, "bias", count)
    within(rows, count, "row", 0, to.rows)
    within(tokens, count, "token", 0, to.columns)
    with nogil:
        c_bias(to, rows, tokens, values, count)


def mask(logits, row, words) -> None:
    cdef Matrix to
    matrix(logits, "logits", &to)
    cdef const int32_t* rows = ints(row, "row", -1)
    cdef int64_t count = row.shape[0]
    if tuple(words.shape) != (count, (to.columns + 31) // 32):
        raise refusal(words, "words", f"[{count}, {(to.columns + 31) // 32}]")
    cdef const int32_t* bits = ints(words.reshape(-1), "words", -1)
    within(rows, count, "row", 0, to.rows)
    with nogil:
        c_mask(to, rows, bits, count)


def penalize(logits, row, token, output_count, in_prompt, presence, frequency, repetition) -> None:
    cdef Matrix to
    cdef Penalties all
    matrix(logits, "logits", &to)
    all.row = ints(row, "row", -1)
    all.count = row.shape[0]
    all.token = ints(token, "token", all.count)
    all.output_count = ints(output_count, "output_count", all.count)
    all.in_prompt = ints(in_prompt, "in_prompt", all.count)
    all.presence = floats(presence, "presence", to.rows)
    all.frequency = floats(frequency, "frequency", to.rows)
    all.repetition = floats(repetition, "repetition", to.rows)
    within(all.row, all.count, "row", 0, to.rows)
    within(all.token, all.count, "token", 0, to.columns)
    with nogil:
        c_penalize(to, all)


def sample(logits, out, *, temperature, top_k, top_p, min_p, seed, position, logprob=None) -> None:
    cdef Sampling job
    cdef View seeds
    matrix(logits, "logits", &job.logits)
    if job.logits.columns == 0:
        raise refusal(logits, "logits", "a vocabulary")
    cdef int64_t rows = job.logits.rows
    job.out = <int32_t*>ints(out, "out", rows)
    job.logprob = NULL
    if logprob is not None:
        job.logprob = <float*>floats(logprob, "logprob", rows)
    job.temperature = floats(temperature, "temperature", rows)
    job.top_p = floats(top_p, "top_p", rows)
    job.min_p = floats(min_p, "min_p", rows)
    job.top_k = ints(top_k, "top_k", rows)
    job.position = ints(position, "position", rows)
    view_any(seed, "seed", 1, &seeds)
    if seed.dtype is not INT64 or seeds.size[0] != rows:
        raise refusal(seed, "seed", f"int64 [{rows}]")
    job.seed = <const int64_t*>seeds.data
    with nogil:
        operations().sample(job)


def likely(logits, row, token, logprob, top_token, top_logprob) -> None:
    cdef Likeliest job
    cdef View tokens, logprobs
    matrix(logits, "logits", &job.logits)
    job.row = ints(row, "row", -1)
    job.count = row.shape[0]
    job.token = ints(token, "token", job.count)
    job.logprob = <float*>floats(logprob, "logprob", job.count)
    view_any(top_token, "top_token", 2, &tokens)
    view_any(top_logprob, "top_logprob", 2, &logprobs)
    job.top = tokens.size[1]
    for tensor, name, kind in ((top_token, "top_token", INT32), (top_logprob, "top_logprob", FLOAT32)):
        if tensor.dtype is not kind or tuple(tensor.shape) != (job.count, job.top) or not tensor.is_contiguous():
            raise refusal(tensor, name, f"{kind} [{job.count}, {job.top}] without gaps")
    job.top_token, job.top_logprob = <int32_t*>tokens.data, <float*>logprobs.data
    within(job.row, job.count, "row", 0, job.logits.rows)
    within(job.token, job.count, "token", 0, job.logits.columns)
    with nogil:
        operations().likeliest(job)
