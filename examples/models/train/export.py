# SPDX-License-Identifier: Apache-2.0
"""Write, read and measure the shipped weights (llama2.c "version 2" file, int8 groups).

    python export.py write --checkpoint RUN_DIR/checkpoint.pt --out MODEL.bin
    python export.py golden --model MODEL.bin --excerpt treasure_island.txt --out golden.json
    python export.py measure --model MODEL.bin --excerpt treasure_island.txt [--prompts 64]

`write` needs PyTorch; the reader and both measurements need NumPy only and start from the file,
so they check the file rather than the training program.
"""
import argparse
import hashlib
import json
import os
import struct

import numpy as np

import data

MAGIC, VERSION, HEADER = 0x616B3432, 2, 256
FIELDS = ("dim", "hidden_dim", "n_layers", "n_heads", "n_kv_heads", "vocab_size", "max_seq_len")
ORDER = ("wq", "wk", "wv", "wo", "w1", "w2", "w3")


def quantize(w, group):
    """int8 values and one scale for each `group` consecutive values in row-major order."""
    w = w.astype(np.float32).reshape(-1, group)
    scale = (np.abs(w).max(axis=1) / 127).astype(np.float32)
    q = np.round(w / np.where(scale == 0, 1, scale)[:, None]).astype(np.int8)
    return q.reshape(-1), scale


def interleave(w, head_dim):
    """Rows of every head from RoPE pairs (i, i + head_dim / 2) to pairs (2i, 2i + 1)."""
    return w.reshape(-1, 2, head_dim // 2, w.shape[1]).swapaxes(1, 2).reshape(w.shape)


def write(checkpoint, out, group):
    import torch
    saved = torch.load(checkpoint, map_location="cpu", weights_only=False)
    s, p = saved["shape"], {k: v.float().numpy() for k, v in saved["model"].items()}
    layers, head_dim = range(s["layers"]), s["dim"] // s["heads"]
    header = struct.pack("<Ii7iBi", MAGIC, VERSION, s["dim"], s["hidden"], s["layers"], s["heads"],
                         s["kv_heads"], s["vocab"], s["seq_len"], 1, group)
    tensors = [p["embedding.weight"]]
    for name in ORDER:
        for i in layers:
            w = p[f"blocks.{i}.{name}"]
            tensors.append(interleave(w, head_dim) if name in ("wq", "wk") else w)
    with open(out + ".new", "wb") as f:
        f.write(header.ljust(HEADER, b"\0"))
        for key in [f"blocks.{i}.att_norm.weight" for i in layers] + \
                   [f"blocks.{i}.ffn_norm.weight" for i in layers] + ["final_norm.weight"]:
            f.write(p[key].astype("<f4").tobytes())
        for w in tensors:
            q, scale = quantize(w, group)
            f.write(q.tobytes() + scale.astype("<f4").tobytes())
    os.replace(out + ".new", out)
    print(out, os.path.getsize(out), "bytes,", saved["state"])


class Reader:
    """The model from its file; every product in `dtype`."""

    def __init__(self, path, dtype=np.float32):
        with open(path, "rb") as f:
            raw = f.read()
        self.sha256 = hashlib.sha256(raw).hexdigest()
        magic, version = struct.unpack_from("<Ii", raw)
        assert magic == MAGIC and version == VERSION, "not a llama2.c version 2 file"
        h = dict(zip(FIELDS, struct.unpack_from("<7i", raw, 8)))
        shared, group = struct.unpack_from("<Bi", raw, 36)
        assert shared == 1
        self.header, self.group = h, group
        dim, ff, L, V = h["dim"], h["hidden_dim"], h["n_layers"], h["vocab_size"]
        self.H, self.K, self.D = h["n_heads"], h["n_kv_heads"], dim // h["n_heads"]
        kv, at = self.K * self.D, HEADER

        def floats(n):
            nonlocal at
            at += 4 * n
            return np.frombuffer(raw, "<f4", n, at - 4 * n)

        def tensor(rows, cols):
            nonlocal at
            q = np.frombuffer(raw, np.int8, rows * cols, at).astype(np.float32)
            at += rows * cols
            scale = floats(rows * cols // group)
            return (q.reshape(-1, group) * scale[:, None]).reshape(rows, cols).astype(dtype)

        self.att_norm = [floats(dim).astype(dtype) for _ in range(L)]
        self.ffn_norm = [floats(dim).astype(dtype) for _ in range(L)]
        self.final_norm = floats(dim).astype(dtype)
        self.embedding = tensor(V, dim)
        shapes = dict(wq=(dim, dim), wk=(kv, dim), wv=(kv, dim), wo=(dim, dim),
                      w1=(ff, dim), w2=(dim, ff), w3=(ff, dim))
        self.w = {name: [tensor(*shapes[name]) for _ in range(L)] for name in ORDER}
        assert at == len(raw), "file length"
        self.L, self.dtype = L, dtype

    def norm(self, x, weight):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + self.dtype(1e-5)) * weight

    def rope(self, x):
        """x [T, heads, D], interleaved pairs."""
        angle = np.arange(len(x))[:, None] * 10000.0 ** (-np.arange(0, self.D, 2) / self.D)
        c, s = np.cos(angle).astype(self.dtype)[:, None], np.sin(angle).astype(self.dtype)[:, None]
        a, b, out = x[..., 0::2], x[..., 1::2], np.empty_like(x)
        out[..., 0::2], out[..., 1::2] = a * c - b * s, a * s + b * c
        return out

    def attend(self, q, k, v):
        T, per, out = len(q), self.H // self.K, np.empty_like(q)
        for h in range(self.H):
            for i in range(0, T, 256):
                n = min(i + 256, T)
                s = q[i:n, h] @ k[:n, h // per].T / self.dtype(self.D) ** self.dtype(0.5)
                s[np.arange(n)[None] > np.arange(i, n)[:, None]] = -np.inf
                e = np.exp(s - s.max(-1, keepdims=True))
                out[i:n, h] = e @ v[:n, h // per] / e.sum(-1, keepdims=True)
        return out.reshape(T, -1)

    def logits(self, tokens, last=None):
        """Logits of all positions, or of the last `last` only."""
        x, T = self.embedding[np.frombuffer(tokens, np.uint8)], len(tokens)
        for i in range(self.L):
            w = {name: self.w[name][i] for name in ORDER}
            y = self.norm(x, self.att_norm[i])
            q, k = (self.rope((y @ w[n].T).reshape(T, -1, self.D)) for n in ("wq", "wk"))
            v = (y @ w["wv"].T).reshape(T, -1, self.D)
            x = x + self.attend(q, k, v) @ w["wo"].T
            y = self.norm(x, self.ffn_norm[i])
            g = y @ w["w1"].T
            x = x + (g / (1 + np.exp(-g)) * (y @ w["w3"].T)) @ w["w2"].T
        x = x[-last:] if last else x
        return self.norm(x, self.final_norm) @ self.embedding.T

    def nll(self, tokens):
        """-log p(tokens[t + 1] | tokens[..t]) for every t, in nats."""
        z = self.logits(tokens[:-1]).astype(np.float64)
        z -= z.max(-1, keepdims=True)
        target = np.frombuffer(tokens, np.uint8)[1:]
        return np.log(np.exp(z).sum(-1)) - z[np.arange(len(z)), target]


def golden(model, excerpt, out):
    m = Reader(model, np.float64)
    text = open(excerpt, "rb").read()
    prompt = b"\0" + text[:40]
    z = m.logits(prompt)[-1]
    top = np.argsort(-z)[:8]
    result = dict(
        model=os.path.basename(model), sha256=m.sha256,
        note="float64 arithmetic on the dequantized weights; prompt = byte 0 + first 40 bytes of the excerpt; "
             "mean NLL in nats over the predicted bytes",
        prompt=list(prompt),
        top_logits=[dict(id=int(i), value=round(float(z[i]), 6)) for i in top],
        prompt_mean_nll=round(float(m.nll(prompt).mean()), 6),
        excerpt_bytes=2048,
        excerpt_mean_nll=round(float(m.nll(b"\0" + text[:2048]).mean()), 6))
    with open(out + ".new", "w") as f:
        json.dump(result, f, indent=1)
        f.write("\n")
    os.replace(out + ".new", out)
    print(json.dumps(result))


def measure(model, excerpt, prompts, lengths, chunks):
    m = Reader(model)
    print("sha256", m.sha256, m.header, "group", m.group)
    excerpt_bytes = open(excerpt, "rb").read()
    size = m.header["max_seq_len"]
    half, everything = [], []
    for i in range(min(chunks, len(excerpt_bytes) // (size - 1))):
        nll = m.nll(b"\0" + excerpt_bytes[i * (size - 1):(i + 1) * (size - 1)])
        half.append(nll[size // 2 - 1:].mean())
        everything.append(nll.mean())
    if half:
        bits = np.array([np.mean(half), np.mean(everything)]) / np.log(2)
        print(f"text, {len(half)} chunks of {size}, positions >= {size // 2}: {bits[0]:.4f} bits/byte, "
              f"perplexity {2 ** bits[0]:.4f}; all: {bits[1]:.4f}, {2 ** bits[1]:.4f}", flush=True)
    text = np.frombuffer(excerpt_bytes, np.uint8)
    for T in lengths:
        rng, right = np.random.default_rng(2024), []
        for i in range(prompts):
            depth = (i + rng.random()) / prompts  # random, spread evenly
            prompt, digits = data.passkey_prompt(rng, text, T, depth)
            # Right digits all the way under forced answers = right digits when decoded greedily.
            z = m.logits(prompt + digits[:-1], last=5)
            right.append(z.argmax(-1) == np.frombuffer(digits, np.uint8))
        right = np.array(right)
        exact = right.all(1)
        eighths = [f"{e.sum()}/{len(e)}" for e in np.array_split(exact, 8)]
        print(f"passkey T={T}: exact {exact.sum()}/{prompts} = {exact.mean():.3f}, digits {right.mean():.4f}, "
              f"by depth eighths {' '.join(eighths)}", flush=True)


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    sub = ap.add_subparsers(dest="command", required=True)
    p = sub.add_parser("write")
    p.add_argument("--checkpoint", required=True)
    p.add_argument("--out", required=True)
    p.add_argument("--group", type=int, default=32)
    for name in ("golden", "measure"):
        p = sub.add_parser(name)
        p.add_argument("--model", required=True)
        p.add_argument("--excerpt", required=True)
        if name == "golden":
            p.add_argument("--out", required=True)
        else:
            p.add_argument("--prompts", type=int, default=64)
            p.add_argument("--lengths", type=int, nargs="*", default=[512, 1024, 2048])
            p.add_argument("--chunks", type=int, default=64)
    args = vars(ap.parse_args())
    globals()[args.pop("command")](**args)


if __name__ == "__main__":
    main()
