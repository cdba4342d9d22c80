// SPDX-License-Identifier: Apache-2.0
// A strided view of rows that belong to the engine: [rows, heads, dim], elements float, half or bfloat16.
// The elements of one row and head are contiguous; strides are in elements; nothing is owned.
#pragma once
#include <cstddef>
#include <string>
#include <type_traits>

#include <tersekv/error.hpp>
#include <tersekv/number.hpp>

namespace tersekv {

/// Element types of engines' arrays.
enum class element : unsigned char { f32, f16, bf16 };

class view {
 public:
  /// data [rows, heads, dim]; a stride of 0 means packed (head_stride = dim, row_stride = heads * head_stride).
  template <class T>
  view(T* data, int rows, int heads, int dim, std::ptrdiff_t row_stride = 0, std::ptrdiff_t head_stride = 0)
      : data_(const_cast<std::remove_const_t<T>*>(data)), rows_(rows), heads_(heads), dim_(dim),
        type_(type_of<std::remove_const_t<T>>()), writable_(!std::is_const_v<T>) {
    if (rows < 0 || heads < 1 || dim < 1 || (data == nullptr && rows > 0))
      throw shape_error("tersekv::view: " + describe() +
                        " is not a view; rows >= 0, heads >= 1, dim >= 1, data not null");
    head_stride_ = head_stride == 0 ? dim : head_stride;
    row_stride_ = row_stride == 0 ? heads * head_stride_ : row_stride;
  }

  int rows() const { return rows_; }
  int heads() const { return heads_; }
  int dim() const { return dim_; }
  bool writable() const { return writable_; }
  void* data() const { return data_; }
  element type() const { return type_; }
  std::ptrdiff_t row_stride() const { return row_stride_; }
  std::ptrdiff_t head_stride() const { return head_stride_; }

  /// out[dim] = the row, as floats.
  void load(int row, int head, float* out) const {
    const std::ptrdiff_t at = offset(row, head);
    switch (type_) {
      case element::f32:
        return widen(static_cast<const float*>(data_) + at, dim_, out);
      case element::f16:
        return widen(static_cast<const half*>(data_) + at, dim_, out);
      case element::bf16:
        return widen(static_cast<const bfloat16*>(data_) + at, dim_, out);
    }
  }
  /// the row = in[dim], rounded to the element type.
  void store(int row, int head, const float* in) const {
    const std::ptrdiff_t at = offset(row, head);
    switch (type_) {
      case element::f32:
        return narrow(in, dim_, static_cast<float*>(data_) + at);
      case element::f16:
        return narrow(in, dim_, static_cast<half*>(data_) + at);
      case element::bf16:
        return narrow(in, dim_, static_cast<bfloat16*>(data_) + at);
    }
  }
  /// "[rows, heads, dim]", for error messages.
  std::string describe() const {
    return "[" + std::to_string(rows_) + ", " + std::to_string(heads_) + ", " + std::to_string(dim_) + "]";
  }

 private:
  template <class T>
  static constexpr element type_of() {
    static_assert(std::is_same_v<T, float> || std::is_same_v<T, half> || std::is_same_v<T, bfloat16>,
                  "tersekv::view: elements are float, tersekv::half or tersekv::bfloat16; cast the pointer of another "
                  "16-bit type to one of these");
    return std::is_same_v<T, float> ? element::f32 : std::is_same_v<T, half> ? element::f16 : element::bf16;
  }
  std::ptrdiff_t offset(int row, int head) const {
    TERSEKV_ASSERT(row >= 0 && row < rows_ && head >= 0 && head < heads_);
    return row * row_stride_ + head * head_stride_;
  }

  void* data_;
  int rows_, heads_, dim_;
  std::ptrdiff_t row_stride_ = 0, head_stride_ = 0;
  element type_;
  bool writable_;
};

}  // namespace tersekv
