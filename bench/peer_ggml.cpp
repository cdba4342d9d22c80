// SPDX-License-Identifier: Apache-2.0
#include "peer_ggml.hpp"

#include <ggml-cpu.h>
#include <ggml.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <new>
#include <stdexcept>
#include <vector>

namespace bench {
namespace {

ggml_type type_named(const std::string& name) {
  if (name == "F16") return GGML_TYPE_F16;
  if (name == "Q8_0") return GGML_TYPE_Q8_0;
  if (name == "Q4_0") return GGML_TYPE_Q4_0;
  throw std::invalid_argument("no ggml type is named " + name);
}

class ggml_cache final : public peer_cache {
 public:
  ggml_cache(const std::string& name, const peer_rows& s, std::pmr::memory_resource* memory) : all_(memory) {
    const ggml_type type = type_named(name);
    const int query_heads = s.kv_heads * s.group;
    const auto of_token = static_cast<std::size_t>(s.kv_heads * s.head_dim);
    bytes_ = 2 * ggml_row_size(type, static_cast<std::int64_t>(of_token)) * static_cast<std::size_t>(s.rows);
    const std::size_t small = 64 * ggml_tensor_overhead() + ggml_graph_overhead() +
                              16 * sizeof(float) * static_cast<std::size_t>(query_heads * s.head_dim);
    all_.resize((bytes_ + small + (std::size_t{1} << 20)) / sizeof(line));
    context_.reset(ggml_init({all_.size() * sizeof(line), all_.data(), false}));
    if (!context_) throw std::bad_alloc();
    ggml_context* c = context_.get();
    const auto heads_of = [&](const float* x) {
      ggml_tensor* all = ggml_new_tensor_2d(c, type, static_cast<std::int64_t>(of_token), s.rows);
      const std::size_t stride = ggml_row_size(type, static_cast<std::int64_t>(of_token));
      for (int t = 0; t < s.rows; ++t)
        ggml_quantize_chunk(type, x + static_cast<std::size_t>(t % s.block) * of_token,
                            static_cast<std::byte*>(all->data) + static_cast<std::size_t>(t) * stride, 0, 1,
                            static_cast<std::int64_t>(of_token), nullptr);
      return ggml_view_3d(c, all, s.head_dim, s.rows, s.kv_heads, stride, ggml_row_size(type, s.head_dim), 0);
    };
    ggml_tensor* k = heads_of(s.k);
    ggml_tensor* v = heads_of(s.v);
    ggml_tensor* q = ggml_new_tensor_3d(c, GGML_TYPE_F32, s.head_dim, 1, query_heads);
    std::memcpy(q->data, s.q, ggml_nbytes(q));
    out_ = ggml_flash_attn_ext(c, q, k, v, nullptr, 1.0f / std::sqrt(static_cast<float>(s.head_dim)), 0.0f, 0.0f);
    ggml_flash_attn_ext_set_prec(out_, GGML_PREC_F32);
    graph_ = ggml_new_graph(c);
    ggml_build_forward_expand(graph_, out_);
  }
  void use(int threads) override {
    if (threads == threads_) return;
    threads_ = threads;
    ggml_threadpool_params wanted = ggml_threadpool_params_default(threads);
    wanted.poll = 0;  // waiting threads sleep, and do not disturb the candidate that comes next
    pool_.reset(ggml_threadpool_new(&wanted));
    plan_ = ggml_graph_plan(graph_, threads, pool_.get());
    work_.resize(plan_.work_size);
    plan_.work_data = work_.data();
  }
  void attend() override {
    if (ggml_graph_compute(graph_, &plan_) != GGML_STATUS_SUCCESS)
      throw std::runtime_error("ggml_graph_compute failed");
  }
  std::size_t bytes() const override { return bytes_; }
  const float* out() const override { return static_cast<const float*>(out_->data); }

 private:
  struct freed {
    void operator()(ggml_context* c) const { ggml_free(c); }
    void operator()(ggml_threadpool* p) const { ggml_threadpool_free(p); }
  };
  struct alignas(64) line {
    std::byte bytes[64];
  };
  std::pmr::vector<line> all_;  // the context's memory
  std::unique_ptr<ggml_context, freed> context_;
  std::unique_ptr<ggml_threadpool, freed> pool_;
  ggml_cgraph* graph_ = nullptr;
  ggml_tensor* out_ = nullptr;
  ggml_cplan plan_{};
  std::vector<std::uint8_t> work_;
  std::size_t bytes_ = 0;
  int threads_ = 0;
};

}  // namespace

std::unique_ptr<peer_cache> make_peer(const std::string& type, const peer_rows& rows,
                                      std::pmr::memory_resource* memory) {
  return std::make_unique<ggml_cache>(type, rows, memory);
}

}  // namespace bench
