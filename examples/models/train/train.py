# SPDX-License-Identifier: Apache-2.0
"""Train the small byte model that ships with tersekv (PyTorch, CPU is enough).

    python train.py --texts DIR --out RUN_DIR [--resume] [--final-tokens N]

Llama shape: RMSNorm, RoPE, grouped-query attention, SwiGLU, tied embedding. The curriculum
(STAGES) lengthens the sequences from 64 to 2048 bytes. Hidden matrices are updated with Muon
(momentum, then orthogonalised), the embedding and the norms with AdamW; the rate warms up,
stays flat and falls linearly to zero over the last part of the run.
"""
import argparse
import dataclasses
import json
import math
import os
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

import data


@dataclasses.dataclass
class Shape:
    dim: int = 128
    hidden: int = 384
    layers: int = 8
    heads: int = 4
    kv_heads: int = 2
    vocab: int = 256
    seq_len: int = 2048

    @property
    def head_dim(self):
        return self.dim // self.heads


@dataclasses.dataclass
class Stage:
    T: int
    least: int  # tokens at least; then on to the next stage once `enough` prompts are answered
    most: int  # tokens at most
    enough: float
    digit_weight: float
    mix: dict
    short: float = 0.0  # share of the steps made with sequences of T / 4 instead


def mix(repeat, plain, needles, single, copy):
    return dict(repeat=repeat, plain=plain, needles=needles, single=single, copy=copy)


STAGES = [
    Stage(64, 800_000, 3_000_000, 0.5, 6, mix(0.60, 0.16, 0.12, 0.04, 0.08)),
    Stage(128, 800_000, 3_000_000, 0.9, 6, mix(0.35, 0.25, 0.25, 0.05, 0.10)),
    Stage(256, 1_000_000, 3_000_000, 0.9, 6, mix(0.15, 0.30, 0.37, 0.05, 0.13)),
    Stage(512, 1_000_000, 4_000_000, 0.9, 8, mix(0.06, 0.36, 0.37, 0.06, 0.15)),
    Stage(1024, 1_500_000, 6_000_000, 0.9, 10, mix(0.05, 0.38, 0.35, 0.07, 0.15)),
    Stage(2048, 10**12, 10**12, 2.0, 12, mix(0.04, 0.34, 0.35, 0.12, 0.15), 0.5),
]


class Norm(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * self.weight


def rotate(x, cos, sin):
    """RoPE on the pairs (i, i + head_dim / 2); export.py reorders the rows to pairs (2i, 2i + 1)."""
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


def attention(q, k, v, mask, rows=256):
    """Causal attention in blocks of query rows; q [B, H, T, D], k and v [B, K, T, D]."""
    B, H, T, D = q.shape
    K, rows, out = k.shape[1], min(rows, T), []
    q = q.reshape(B * K, H // K, T, D) * D ** -0.5
    k, v = k.reshape(B * K, T, D).transpose(1, 2), v.reshape(B * K, T, D)
    for i in range(0, T, rows):
        n = min(i + rows, T)
        s = torch.bmm(q[:, :, i:n].reshape(B * K, -1, D), k[:, :, :n]).view(B * K, H // K, n - i, n)
        p = torch.softmax(s + mask[i:n, :n], -1, dtype=s.dtype)
        out.append(torch.bmm(p.view(B * K, -1, n), v[:, :n]).view(B * K, H // K, n - i, D))
    return torch.cat(out, 2).view(B, H, T, D)


class Block(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.s = s
        kv = s.kv_heads * s.head_dim
        self.att_norm, self.ffn_norm = Norm(s.dim), Norm(s.dim)
        self.wq = nn.Parameter(torch.empty(s.dim, s.dim))
        self.wk = nn.Parameter(torch.empty(kv, s.dim))
        self.wv = nn.Parameter(torch.empty(kv, s.dim))
        self.wo = nn.Parameter(torch.empty(s.dim, s.dim))
        self.w1 = nn.Parameter(torch.empty(s.hidden, s.dim))
        self.w2 = nn.Parameter(torch.empty(s.dim, s.hidden))
        self.w3 = nn.Parameter(torch.empty(s.hidden, s.dim))
        for name in ("wq", "wk", "wv", "wo", "w1", "w2", "w3"):
            w = getattr(self, name)
            scale = 1 / math.sqrt(2 * s.layers) if name in ("wo", "w2") else 1
            nn.init.normal_(w, std=0.5 * scale / math.sqrt(w.shape[1]))

    def forward(self, x, cos, sin, mask):
        s, (B, T, _) = self.s, x.shape
        h = F.linear(self.att_norm(x).to(cos.dtype), torch.cat([self.wq, self.wk, self.wv]))
        h = h.view(B, T, -1, s.head_dim).transpose(1, 2)
        n = s.heads + s.kv_heads
        qk = rotate(h[:, :n], cos, sin)
        a = attention(qk[:, :s.heads], qk[:, s.heads:], h[:, n:], mask)
        x = x + F.linear(a.transpose(1, 2).reshape(B, T, -1), self.wo)
        g, u = F.linear(self.ffn_norm(x).to(cos.dtype), torch.cat([self.w1, self.w3])).chunk(2, -1)
        return x + F.linear(F.silu(g) * u, self.w2)


class Model(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(shape.vocab, shape.dim)
        nn.init.normal_(self.embedding.weight, std=0.04)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.final_norm = Norm(shape.dim)
        self.tables = {}

    def table(self, T):
        if T not in self.tables:
            half = self.shape.head_dim // 2
            angle = torch.arange(T)[:, None] * 10000.0 ** (-torch.arange(half) / half)
            mask = torch.full((T, T), -math.inf).triu(1)
            self.tables[T] = [t.to(torch.bfloat16) for t in (angle.cos(), angle.sin(), mask)]
        return self.tables[T]

    def forward(self, tokens, block=Block.forward):
        with torch.autocast("cpu", torch.bfloat16):
            x = self.embedding(tokens)
            for b in self.blocks:
                x = block(b, x, *self.table(tokens.shape[1]))
            return F.linear(self.final_norm(x), self.embedding.weight).float()


class Muon:
    """Momentum made orthogonal by five Newton-Schulz steps; matrices of one shape go together."""

    def __init__(self, parameters, decay):
        self.groups, self.decay = {}, decay
        for p in parameters:
            self.groups.setdefault(p.shape, []).append(p)
        self.momentum = {s: torch.zeros(len(g), *s) for s, g in self.groups.items()}

    @torch.no_grad()
    def step(self, lr, beta=0.95):
        for shape, group in self.groups.items():
            g = torch.stack([p.grad for p in group])
            m = self.momentum[shape].lerp_(g, 1 - beta)
            x = g.lerp(m, beta).bfloat16()
            tall = shape[0] > shape[1]
            x = x.transpose(1, 2) if tall else x
            x = x / (x.flatten(1).norm(dim=1)[:, None, None] + 1e-7)
            for _ in range(5):
                a = x @ x.transpose(1, 2)
                x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
            x = (x.transpose(1, 2) if tall else x).float()
            rate = lr * max(1.0, shape[0] / shape[1]) ** 0.5
            torch._foreach_mul_(group, 1 - lr * self.decay)
            torch._foreach_add_(group, list(x.unbind(0)), alpha=-rate)


@torch.no_grad()
def retrieval(model, text, T, prompts=32):
    """Share of passkey prompts (T bytes with the answer) answered exactly, and of right digits."""
    rng, right = np.random.default_rng(1), []
    for i in range(0, prompts, 8):
        rows = []
        for j in range(i, min(i + 8, prompts)):
            prompt, digits = data.passkey_prompt(rng, text, T, (j + 0.5) / prompts)
            rows.append(np.frombuffer(prompt + digits, np.uint8))
        t = torch.from_numpy(np.stack(rows).astype(np.int64))
        right.append(model(t[:, :-1])[:, -5:].argmax(-1) == t[:, -5:])
    right = torch.cat(right).float()
    return right.prod(1).mean().item(), right.mean().item()


@torch.no_grad()
def bits_per_byte(model, text, T, chunks=16):
    """On consecutive chunks of T bytes, BOS included; positions >= T/2 only."""
    total = 0.0
    for i in range(0, chunks, 4):
        t = np.zeros((4, T), np.int64)
        for r in range(4):
            t[r, 1:] = text[(i + r) * (T - 1):(i + r + 1) * (T - 1)]
        t = torch.from_numpy(t)
        loss = F.cross_entropy(model(t[:, :-1]).flatten(0, 1), t[:, 1:].flatten(), reduction="none")
        total += loss.view(4, -1)[:, T // 2 - 1:].mean().item()
    return total / (chunks // 4) / math.log(2)


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--texts", required=True, help="folder with the book files named in data.py")
    ap.add_argument("--out", required=True, help="folder for the checkpoint and the log")
    ap.add_argument("--resume", action="store_true")
    ap.add_argument("--layers", type=int, default=8)
    ap.add_argument("--step-tokens", type=int, default=4096)
    ap.add_argument("--final-tokens", type=int, default=6_000_000, help="tokens of the last stage")
    ap.add_argument("--decay-tokens", type=int, default=5_200_000, help="of them with falling rate")
    ap.add_argument("--finish-in", type=float, help="seconds: let the rate fall from where it is to "
                    "zero in this time and stop, whatever the stage")
    ap.add_argument("--muon-lr", type=float, default=0.02)
    ap.add_argument("--adam-lr", type=float, default=3e-3)
    ap.add_argument("--eval-seconds", type=float, default=90)
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--no-compile", action="store_true")
    args = ap.parse_args()

    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(args.seed)
    os.makedirs(args.out, exist_ok=True)
    text = data.load_training_text(args.texts)
    held_out = np.frombuffer(data.make_excerpt(args.texts), np.uint8)

    model = Model(Shape(layers=args.layers))
    block = Block.forward if args.no_compile else torch.compile(Block.forward, dynamic=False)
    matrices = [p for n, p in model.named_parameters() if ".w" in n and p.dim() == 2 and "blocks" in n]
    others = [p for p in model.parameters() if not any(p is m for m in matrices)]
    muon, adam = Muon(matrices, 0.05), torch.optim.AdamW(
        others, lr=args.adam_lr, betas=(0.9, 0.98), weight_decay=0.0, fused=True)

    state = dict(stage=0, stage_tokens=0, tokens=0, step=0, seconds=0.0, rate=1.0)
    path = os.path.join(args.out, "checkpoint.pt")
    if args.resume:
        saved = torch.load(path, weights_only=False)
        model.load_state_dict(saved["model"])
        adam.load_state_dict(saved["adam"])
        muon.momentum, state = saved["muon"], dict(state, **saved["state"])
    # After a resume the data continue with a fresh but fixed stream.
    mixer = data.Mixer(text, [args.seed, state["step"]])

    def save():
        torch.save(dict(model=model.state_dict(), adam=adam.state_dict(), muon=muon.momentum,
                        state=state, shape=dataclasses.asdict(model.shape)), path + ".new")
        os.replace(path + ".new", path)

    def log(**row):
        line = json.dumps({k: round(v, 5) if isinstance(v, float) else v for k, v in row.items()})
        print(line, flush=True)
        with open(os.path.join(args.out, "log.jsonl"), "a") as f:
            f.write(line + "\n")

    losses, since, last_eval = [], state["tokens"], time.time()
    begin, rate_then = last_eval, state["rate"]
    while True:
        stage = STAGES[state["stage"]]
        last = state["stage"] == len(STAGES) - 1
        left = args.final_tokens - state["stage_tokens"] if last else math.inf
        mixer.digit_weight = stage.digit_weight
        started = time.time()
        T = stage.T // 4 if mixer.rng.random() < stage.short else stage.T
        rows = max(1, args.step_tokens // T)
        tokens, weights = mixer.batch(T, rows, stage.mix)
        tokens, weights = torch.from_numpy(tokens), torch.from_numpy(weights)
        logits = model(tokens[:, :-1], block)
        loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="none")
        loss = (loss * weights.flatten()).sum() / weights.sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scale = min(1.0, (state["step"] + 1) / 200, max(left, 0) / args.decay_tokens)
        if args.finish_in:
            scale = rate_then * max(0.0, 1 - (time.time() - begin) / args.finish_in)
        state["rate"] = scale
        adam.param_groups[0]["lr"] = args.adam_lr * scale
        adam.step()
        muon.step(args.muon_lr * scale)
        model.zero_grad(set_to_none=True)

        losses.append(loss.item())
        state["step"] += 1
        for key in ("tokens", "stage_tokens"):
            state[key] += rows * T
        state["seconds"] += time.time() - started
        done = last and state["stage_tokens"] >= args.final_tokens
        if args.finish_in:
            done = time.time() - begin >= args.finish_in
        if not done and time.time() - last_eval < args.eval_seconds:
            continue
        rate = (state["tokens"] - since) / (time.time() - last_eval)
        exact, digits = retrieval(model, held_out, stage.T)
        bits = bits_per_byte(model, held_out, max(stage.T, 256))
        log(clock=time.strftime("%H:%M:%S"), T=stage.T, step=state["step"], tokens=state["tokens"],
            seconds=state["seconds"], lr=scale, loss=float(np.mean(losses)), exact=exact,
            digits=digits, bits=bits, tokens_per_second=rate)
        save()
        if done:
            break
        if not last and (state["stage_tokens"] >= stage.most or
                         (state["stage_tokens"] >= stage.least and exact >= stage.enough)):
            state["stage"] += 1
            state["stage_tokens"] = 0
            torch._dynamo.reset()
        losses, since, last_eval = [], state["tokens"], time.time()


if __name__ == "__main__":
    main()
