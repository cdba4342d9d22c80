// SPDX-License-Identifier: Apache-2.0
//
// A trained Llama-family model, read from one file of the llama2.c family (three layouts, told apart by their header):
//   legacy     7 int32 without a magic number, float32 weights, rotary tables that are skipped
//   version 1  256-byte header "ak42", float32 weights
//   version 2  256-byte header "ak42", int8 weights in groups with one float32 scale each
// Whatever the file holds, loading ends with a model or with a checkpoint_error of one sentence.
#pragma once
#include <cstdint>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <vector>

namespace lab {

struct checkpoint_error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct model_dims {
  int dim = 0, hidden = 0, layers = 0, heads = 0, kv_heads = 0, vocab = 0, context = 0;

  int head_dim() const { return dim / heads; }
  int kv_dim() const { return head_dim() * kv_heads; }
};

/// Weights are float32, row-major [outputs, inputs], whatever the file held. Projections that read the same
/// activations lie in one matrix, so that one product makes them all.
struct layer_weights {
  std::vector<float> attention_norm;  // [dim]
  std::vector<float> qkv;             // [dim + 2 kv_dim, dim]   rows of q, then k, then v
  std::vector<float> out;             // [dim, dim]
  std::vector<float> mlp_norm;        // [dim]
  std::vector<float> gate_up;         // [2 hidden, dim]         rows of w1 (through silu), then w3
  std::vector<float> down;            // [dim, hidden]           w2
};

struct model {
  model_dims dims;
  std::string format;            // "legacy float32", "version 1 float32", "version 2 int8 in groups of 64"
  std::vector<float> embedding;  // [vocab, dim]
  std::vector<layer_weights> layers;
  std::vector<float> final_norm;      // [dim]
  std::vector<float> own_classifier;  // [vocab, dim], empty when the embedding is the classifier

  const std::vector<float>& classifier() const { return own_classifier.empty() ? embedding : own_classifier; }
  std::size_t parameters() const;
};

model load_model(const std::filesystem::path& file);

}  // namespace lab
