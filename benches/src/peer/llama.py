"""llama.cpp behind a pipe: one JSON request a line in, one JSON answer a line out.

Started by `benches -- peer` with the path of a GGUF file and the number of threads. Each setting of
flash attention has its own context; the caller takes the better one.
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


def context(flash):
    params = ll.llama_context_default_params()
    params.n_ctx = context_len
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


def answer(request):
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
        # As a greedy answer would, the next token waits for these logits.
        logits = ll.llama_get_logits_ith(ctx, -1)
        token = 300 + int(abs(logits[0]) * 1000) % (min(vocab, 30000) - 300)
    return count / (time.perf_counter() - begun)


print(json.dumps({"version": ll.__version__, "load_s": load_s}), flush=True)
for line in sys.stdin:
    print(json.dumps({"tokens_per_second": answer(json.loads(line))}), flush=True)
