// SPDX-License-Identifier: Apache-2.0
#include "checkpoint.hpp"

#include <bit>
#include <cmath>
#include <cstring>
#include <fstream>
#include <span>

namespace lab {
namespace {

static_assert(std::endian::native == std::endian::little, "checkpoints are little endian; add byte swapping here");

constexpr std::uint32_t ak42 = 0x616b3432;
constexpr std::size_t long_header = 256;  // [bytes] versions 1 and 2

struct file_reader {
  const std::filesystem::path& path;
  std::vector<char> bytes;
  std::size_t at = 0;

  [[noreturn]] void fail(const std::string& what) const {
    throw checkpoint_error("'" + path.string() + "' is not a model this program can read: " + what + ".");
  }

  /// Bounds are checked once, by check_size, before any tensor is read.
  void copy(void* to, std::size_t count) {
    if (count > bytes.size() - at) fail("it ends inside its header (" + std::to_string(bytes.size()) + " bytes)");
    std::memcpy(to, bytes.data() + at, count);
    at += count;
  }

  template <class T>
  T number() {
    T x;
    copy(&x, sizeof x);
    return x;
  }
};

struct header {
  model_dims dims;
  int version = 0;  // 0: legacy
  int group = 0;    // weights that share a scale, version 2
  bool tied = false;
};

struct limit {
  const char* name;
  int value, most;
};

header read_header(file_reader& in) {
  header h;
  if (in.bytes.size() < 28) in.fail("it has only " + std::to_string(in.bytes.size()) + " bytes");
  std::uint32_t magic;
  std::memcpy(&magic, in.bytes.data(), sizeof magic);
  if (magic == ak42) {
    in.at = 4;
    h.version = in.number<std::int32_t>();
    if (h.version != 1 && h.version != 2)
      in.fail("its header says version " + std::to_string(h.version) + ", and only 1 (float32) and 2 (int8) are known");
    if (in.bytes.size() < long_header) in.fail("it ends inside its header of 256 bytes");
  }
  model_dims& d = h.dims;
  for (int* x : {&d.dim, &d.hidden, &d.layers, &d.heads, &d.kv_heads, &d.vocab, &d.context})
    *x = in.number<std::int32_t>();
  if (h.version == 0) {
    h.tied = d.vocab > 0;  // the legacy way of saying it
    if (d.vocab < 0 && d.vocab > -(1 << 24)) d.vocab = -d.vocab;
  } else {
    h.tied = in.number<std::uint8_t>() != 0;
    if (h.version == 2) h.group = in.number<std::int32_t>();
    in.at = long_header;
  }
  const std::string hint = h.version == 0 ? " (no \"ak42\" mark, so it was read as a legacy llama2.c file)" : "";
  for (const limit& l :
       {limit{"dim", d.dim, 1 << 16}, limit{"hidden_dim", d.hidden, 1 << 18}, limit{"n_layers", d.layers, 1 << 10},
        limit{"n_heads", d.heads, 1 << 10}, limit{"n_kv_heads", d.kv_heads, 1 << 10},
        limit{"vocab_size", d.vocab, 1 << 20}, limit{"seq_len", d.context, 1 << 24}})
    if (l.value < 1 || l.value > l.most)
      in.fail("its header gives " + std::string(l.name) + " = " + std::to_string(l.value) + ", expected 1 to " +
              std::to_string(l.most) + hint);
  if (d.dim % d.heads != 0 || d.head_dim() % 2 != 0 || d.heads % d.kv_heads != 0)
    in.fail("its header gives dim = " + std::to_string(d.dim) + ", n_heads = " + std::to_string(d.heads) +
            ", n_kv_heads = " + std::to_string(d.kv_heads) +
            ", but heads must divide dim into even sizes and kv heads must divide heads" + hint);
  if (h.version == 2 && (h.group < 1 || d.dim % h.group != 0))  // every matrix has a multiple of dim weights
    in.fail("its header gives group_size = " + std::to_string(h.group) +
            ", which does not divide dim = " + std::to_string(d.dim));
  return h;
}

/// The size that the header promises. At most 2^20 * 2^16 numbers a tensor and 2^10 layers: far from 64 bits.
std::uint64_t expected_bytes(const header& h) {
  const auto n = [](int x) { return static_cast<std::uint64_t>(x); };
  const model_dims& d = h.dims;
  const std::uint64_t norms = (2 * n(d.layers) + 1) * n(d.dim);
  std::uint64_t matrices = n(d.vocab) * n(d.dim) * (h.tied ? 1 : 2);
  matrices += n(d.layers) * n(d.dim) * (2 * n(d.dim) + 2 * n(d.kv_dim()) + 3 * n(d.hidden));
  if (h.version == 2) return long_header + 4 * norms + matrices + 4 * (matrices / n(h.group));
  if (h.version == 1) return long_header + 4 * (norms + matrices);
  return 28 + 4 * (norms + matrices + n(d.context) * n(d.head_dim()));  // two rotary tables of head_dim / 2
}

void check_size(const file_reader& in, const header& h) {
  const std::uint64_t expected = expected_bytes(h);
  if (in.bytes.size() == expected) return;
  in.fail("it has " + std::to_string(in.bytes.size()) + " bytes, but a model of its header (dim " +
          std::to_string(h.dims.dim) + ", " + std::to_string(h.dims.layers) + " layers, vocabulary " +
          std::to_string(h.dims.vocab) + ") has " + std::to_string(expected));
}

/// Reads tensors in file order into the places where the runner wants them.
struct tensor_reader {
  file_reader& in;
  const header& h;

  void floats(std::span<float> to, const char* name) {
    in.copy(to.data(), to.size_bytes());
    check(to, name);
  }

  void matrix(std::span<float> to, const char* name) {
    if (h.version != 2) return floats(to, name);
    const auto group = static_cast<std::size_t>(h.group);
    std::vector<std::int8_t> codes(to.size());
    std::vector<float> scales(to.size() / group);
    in.copy(codes.data(), codes.size());
    in.copy(scales.data(), scales.size() * sizeof(float));
    for (std::size_t i = 0; i < to.size(); ++i) to[i] = static_cast<float>(codes[i]) * scales[i / group];
    check(to, name);
  }

  void check(std::span<const float> x, const char* name) const {
    for (float w : x)
      if (!std::isfinite(w)) in.fail(std::string("a weight of ") + name + " is not a finite number");
  }
};

}  // namespace

std::size_t model::parameters() const {
  std::size_t n = embedding.size() + final_norm.size() + own_classifier.size();
  for (const layer_weights& l : layers)
    n += l.attention_norm.size() + l.qkv.size() + l.out.size() + l.mlp_norm.size() + l.gate_up.size() + l.down.size();
  return n;
}

model load_model(const std::filesystem::path& file) {
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(file, ignored))
    throw checkpoint_error("There is no model file '" + file.string() + "'.");
  file_reader in{file, {}};
  std::ifstream stream(file, std::ios::binary);
  const auto size = std::filesystem::file_size(file, ignored);
  in.bytes.resize(static_cast<std::size_t>(ignored ? 0 : size));
  if (!stream.read(in.bytes.data(), static_cast<std::streamsize>(in.bytes.size())))
    throw checkpoint_error("The model file '" + file.string() + "' cannot be read.");

  const header h = read_header(in);
  check_size(in, h);
  const model_dims& d = h.dims;
  const auto n = [](int x) { return static_cast<std::size_t>(x); };
  const std::size_t dim = n(d.dim), kv = n(d.kv_dim()), hidden = n(d.hidden), vocab = n(d.vocab);

  model m;
  m.dims = d;
  m.format = h.version == 0   ? "legacy float32"
             : h.version == 1 ? "version 1 float32"
                              : "version 2 int8 in groups of " + std::to_string(h.group);
  m.embedding.resize(vocab * dim);
  m.final_norm.resize(dim);
  if (!h.tied) m.own_classifier.resize(vocab * dim);
  m.layers.resize(n(d.layers));
  for (layer_weights& l : m.layers) {
    l.attention_norm.resize(dim);
    l.qkv.resize((dim + 2 * kv) * dim);
    l.out.resize(dim * dim);
    l.mlp_norm.resize(dim);
    l.gate_up.resize(2 * hidden * dim);
    l.down.resize(dim * hidden);
  }

  tensor_reader read{in, h};
  const auto each_layer = [&](auto&& body) {
    for (layer_weights& l : m.layers) body(l);
  };
  const auto attention_norms = [&] { each_layer([&](layer_weights& l) { read.floats(l.attention_norm, "rms_att"); }); };
  const auto mlp_norms = [&] { each_layer([&](layer_weights& l) { read.floats(l.mlp_norm, "rms_ffn"); }); };
  if (h.version != 0) {
    attention_norms();
    mlp_norms();
    read.floats(m.final_norm, "rms_final");
  }
  read.matrix(m.embedding, "tok_emb");
  if (h.version == 0) attention_norms();
  const auto part = [](std::vector<float>& all, std::size_t from, std::size_t count) {
    return std::span(all).subspan(from, count);
  };
  each_layer([&](layer_weights& l) { read.matrix(part(l.qkv, 0, dim * dim), "wq"); });
  each_layer([&](layer_weights& l) { read.matrix(part(l.qkv, dim * dim, kv * dim), "wk"); });
  each_layer([&](layer_weights& l) { read.matrix(part(l.qkv, (dim + kv) * dim, kv * dim), "wv"); });
  each_layer([&](layer_weights& l) { read.matrix(l.out, "wo"); });
  if (h.version == 0) mlp_norms();
  each_layer([&](layer_weights& l) { read.matrix(part(l.gate_up, 0, hidden * dim), "w1"); });
  each_layer([&](layer_weights& l) { read.matrix(l.down, "w2"); });
  each_layer([&](layer_weights& l) { read.matrix(part(l.gate_up, hidden * dim, hidden * dim), "w3"); });
  if (h.version == 0) {
    read.floats(m.final_norm, "rms_final");
    in.at += n(d.context) * n(d.head_dim()) * sizeof(float);  // rotary tables: recomputed by the runner
  }
  if (!h.tied) read.matrix(m.own_classifier, "wcls");
  return m;
}

}  // namespace lab
