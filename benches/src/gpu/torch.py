"""A Llama of given sizes with random weights in PyTorch, behind a pipe: one JSON question a line in, one
JSON answer a line out.

Started by `benches -- gpu` with the number of the GPU. Attention is `scaled_dot_product_attention`; the
decode step is compiled with CUDA graphs (`mode="reduce-overhead"`), over a KV cache that does not move.
"""

import json
import sys
import time

import torch
import torch.nn.functional as F

if not torch.cuda.is_available():
    sys.exit("no GPU that PyTorch sees")
torch.cuda.set_device(int(sys.argv[1]))
torch.set_default_device("cuda")
torch.set_default_dtype(torch.bfloat16)
torch.set_grad_enabled(False)

STEPS, WARM = 32, 4


def say(**answer):
    print(json.dumps(answer), flush=True)


def turned(x, positions, head_dim):
    """Half-split rotation, as Llama weights on the hub have it. x: [batch, rows, heads, head_dim]."""
    pairs = head_dim // 2
    speeds = 500000.0 ** (-torch.arange(pairs, dtype=torch.float32) / pairs)
    angles = positions[:, None].float() * speeds
    cos = angles.cos()[None, :, None, :].to(x.dtype)
    sin = angles.sin()[None, :, None, :].to(x.dtype)
    a, b = x[..., :pairs], x[..., pairs:]
    return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1)


class Model:
    def __init__(self, sizes):
        for name, value in sizes.items():
            setattr(self, name, value)
        width = (self.heads + 2 * self.kv_heads) * self.head_dim
        shapes = [
            (width, self.dim),
            (self.dim, self.heads * self.head_dim),
            (2 * self.ffn, self.dim),
            (self.dim, self.ffn),
        ]
        self.weights = [[torch.randn(shape) / 50 for shape in shapes] for _ in range(self.layers)]
        self.embed = torch.randn(self.vocab, self.dim) / 50
        self.output = self.embed if self.tied else torch.randn(self.vocab, self.dim) / 50
        self.ones = torch.ones(self.dim)

    def cache(self, batch, rows):
        shape = (self.layers, 2, batch, self.kv_heads, rows, self.head_dim)
        return torch.zeros(shape, dtype=torch.bfloat16)

    def forward(self, tokens, positions, cache, mask):
        """Logits of the last row. tokens: [batch, rows]; positions: [rows], where K and V are put."""
        batch, rows = tokens.shape
        x = F.embedding(tokens, self.embed)
        q_width, kv_width = self.heads * self.head_dim, self.kv_heads * self.head_dim
        for layer, (qkv, out, gate_up, down) in enumerate(self.weights):
            normed = F.rms_norm(x, (self.dim,), self.ones, 1e-5)
            q, k, v = F.linear(normed, qkv).split((q_width, kv_width, kv_width), dim=-1)
            q = turned(q.view(batch, rows, self.heads, self.head_dim), positions, self.head_dim)
            k = turned(k.view(batch, rows, self.kv_heads, self.head_dim), positions, self.head_dim)
            v = v.view(batch, rows, self.kv_heads, self.head_dim)
            keys, values = cache[layer, 0], cache[layer, 1]
            keys.index_copy_(2, positions, k.transpose(1, 2))
            values.index_copy_(2, positions, v.transpose(1, 2))
            attended = F.scaled_dot_product_attention(
                q.transpose(1, 2),
                keys,
                values,
                attn_mask=mask,
                is_causal=mask is None,
                enable_gqa=True,
            )
            x = x + F.linear(attended.transpose(1, 2).reshape(batch, rows, -1), out)
            normed = F.rms_norm(x, (self.dim,), self.ones, 1e-5)
            gate, up = F.linear(normed, gate_up).chunk(2, dim=-1)
            x = x + F.linear(F.silu(gate) * up, down)
        last = F.rms_norm(x[:, -1], (self.dim,), self.ones, 1e-5)
        return F.linear(last, self.output)


def timed(work):
    torch.cuda.synchronize()
    begun = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - begun


def prefill(model, step, tokens):
    cache = model.cache(1, tokens)
    ids, positions = torch.zeros(1, tokens, dtype=torch.long), torch.arange(tokens)

    def work():
        return step(ids, positions, cache, None)

    work()
    return timed(work)


def decode(model, step, batch, depth):
    rows = depth + 1
    cache = model.cache(batch, rows)
    ids, positions = torch.zeros(batch, 1, dtype=torch.long), torch.full((1,), depth)
    mask = torch.ones(1, 1, 1, rows, dtype=torch.bool)

    def work(steps):
        for _ in range(steps):
            torch.compiler.cudagraph_mark_step_begin()
            step(ids, positions, cache, mask).argmax(-1).tolist()

    work(WARM)
    return timed(lambda: work(STEPS)) / STEPS


def answer(question, state):
    if question["ask"] == "load":
        state.clear()
        torch.cuda.empty_cache()
        torch._dynamo.reset()
        model = Model(question["sizes"])
        state["model"] = model
        state["prefill"] = torch.compile(model.forward)
        state["decode"] = torch.compile(model.forward, mode="reduce-overhead")
        return None
    model = state["model"]
    if question["ask"] == "prefill":
        return prefill(model, state["prefill"], question["tokens"])
    return decode(model, state["decode"], question["batch"], question["depth"])


say(version=f"{torch.__version__} on {torch.cuda.get_device_name()}")
state = {}
for line in sys.stdin:
    try:
        say(seconds=answer(json.loads(line), state))
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        say(error=f"not enough memory for {line.strip()}")
    except Exception as error:  # noqa: BLE001: the bench goes on without this number
        say(error=f"{line.strip()}: {type(error).__name__}: {error}"[:500])
