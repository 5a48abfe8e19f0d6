"""llama.cpp behind a pipe: one JSON request a line in, one JSON answer a line out.

Started by `benches -- peer` and `benches -- batch` with the path of a GGUF file and the number of
threads. Each setting of flash attention has its own context; the caller takes the better one.
"""

import ctypes
import json
import sys
import time

import llama_cpp as ll


def quiet(_level, _text, _data):
    pass


SILENT = ll.llama_log_callback(quiet)
ll.llama_log_set(SILENT, ctypes.c_void_p(0))
ll.llama_backend_init()

path, threads, context_len = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
begun = time.perf_counter()
model_params = ll.llama_model_default_params()
model_params.n_gpu_layers = 0
model = ll.llama_model_load_from_file(path.encode(), model_params)
if not model:
    sys.exit(f"llama.cpp does not load {path}")
load_s = time.perf_counter() - begun
vocab = ll.llama_n_vocab(ll.llama_model_get_vocab(model))


def context(flash, length=context_len, sequences=1):
    params = ll.llama_context_default_params()
    params.n_ctx = length
    params.n_seq_max = sequences
    # Sequences share the cells of what they have in common.
    params.kv_unified = True
    params.n_batch = 2048
    params.n_ubatch = 512
    params.n_threads = threads
    params.n_threads_batch = threads
    params.offload_kqv = False
    # LLAMA_FLASH_ATTN_TYPE_DISABLED and _ENABLED.
    params.flash_attn_type = 1 if flash else 0
    made = ll.llama_init_from_model(model, params)
    if not made:
        sys.exit("llama.cpp makes no context")
    return made


contexts = {flash: context(flash) for flash in (False, True)}


def decode(ctx, tokens):
    for at in range(0, len(tokens), 2048):
        part = tokens[at : at + 2048]
        array = (ll.llama_token * len(part))(*part)
        if ll.llama_decode(ctx, ll.llama_batch_get_one(array, len(part))) != 0:
            sys.exit("llama.cpp fails to decode")
    ll.llama_synchronize(ctx)


def clear(ctx):
    ll.llama_memory_clear(ll.llama_get_memory(ctx), True)


def next_token(ctx, at):
    # As a greedy answer would, the next token waits for these logits.
    logits = ll.llama_get_logits_ith(ctx, at)
    return 300 + int(abs(logits[0]) * 1000) % (min(vocab, 30000) - 300)


def decode_rows(ctx, batch, rows):
    """Rows of (token, position, sequence), all with logits."""
    batch.n_tokens = len(rows)
    for i, (token, position, sequence) in enumerate(rows):
        batch.token[i] = token
        batch.pos[i] = position
        batch.n_seq_id[i] = 1
        batch.seq_id[i][0] = sequence
        batch.logits[i] = 1
    if ll.llama_decode(ctx, batch) != 0:
        sys.exit("llama.cpp fails to decode")


def slots(request):
    """Tokens per second of sequences that decode side by side behind the same tokens, held once."""
    sequences, shared, tail, count = (
        request[name] for name in ("sequences", "shared", "tail", "tokens")
    )
    ctx = context(request["flash"], shared + sequences * (tail + count) + 64, sequences)
    memory = ll.llama_get_memory(ctx)
    decode(ctx, [300 + i * 104729 % (min(vocab, 30000) - 300) for i in range(shared)])
    for sequence in range(1, sequences):
        ll.llama_memory_seq_cp(memory, 0, sequence, -1, -1)
    batch = ll.llama_batch_init(max(tail, sequences), 0, 1)
    tokens = []
    for sequence in range(sequences):
        decode_rows(ctx, batch, [(400 + sequence + i, shared + i, sequence) for i in range(tail)])
        tokens.append(next_token(ctx, tail - 1))
    begun = time.perf_counter()
    for step in range(count):
        position = shared + tail + step
        decode_rows(ctx, batch, [(t, position, s) for s, t in enumerate(tokens)])
        tokens = [next_token(ctx, i) for i in range(sequences)]
    speed = sequences * count / (time.perf_counter() - begun)
    ll.llama_batch_free(batch)
    ll.llama_free(ctx)
    return speed


def answer(request):
    if request["op"] == "slots":
        return slots(request)
    ctx = contexts[request["flash"]]
    seed, count = request["seed"], request["tokens"]
    filler = lambda n: [300 + (seed * 7919 + i * 104729) % (min(vocab, 30000) - 300) for i in range(n)]
    if request["op"] == "prefill":
        clear(ctx)
        tokens = filler(count)
        begun = time.perf_counter()
        decode(ctx, tokens)
        return count / (time.perf_counter() - begun)
    clear(ctx)
    decode(ctx, filler(max(request["depth"], 1)))
    token = 1000
    begun = time.perf_counter()
    for _ in range(count):
        decode(ctx, [token])
        token = next_token(ctx, -1)
    return count / (time.perf_counter() - begun)


print(json.dumps({"version": ll.__version__, "load_s": load_s}), flush=True)
for line in sys.stdin:
    print(json.dumps({"tokens_per_second": answer(json.loads(line))}), flush=True)
