// SPDX-License-Identifier: Apache-2.0
// Fallbacks for the CPU of tersekv/backend/cuda/ptx_memory.cuh.
#pragma once
#include <type_traits>

#include "simt/memory.hpp"

namespace tersekv::detail {

template <class T>
T load(const T* p, simt::place where = {}) {
  simt::check_aligned(p, sizeof(T), "load", where);
  return *p;
}
template <class T>
T load_once(const T* p, simt::place where = {}) {
  simt::check_aligned(p, sizeof(T), "load_once", where);
  return *p;
}
template <class T>
void store(T* p, std::type_identity_t<T> value, simt::place where = {}) {
  simt::check_aligned(p, sizeof(T), "store", where);
  *p = value;
}
template <class T>
T load_shared(const void* p, simt::place where = {}) {
  simt::check_aligned(p, sizeof(T), "load_shared", where);
  simt::note_access(p, sizeof(T), where);
  return *static_cast<const T*>(p);
}
template <class T>
void store_shared(void* p, T value, simt::place where = {}) {
  simt::check_aligned(p, sizeof(T), "store_shared", where);
  simt::note_access(p, sizeof(T), where);
  *static_cast<T*>(p) = value;
}

template <int Bytes>
void copy_async(void* shared, const void* global, int valid = Bytes, simt::place where = {}) {
  static_assert(Bytes == 4 || Bytes == 8 || Bytes == 16);
  simt::start_copy({shared, global, Bytes, static_cast<unsigned>(valid)}, where);
}
inline void copy_commit() { simt::commit_copies(); }
template <int Pending>
void copy_wait() {
  simt::wait_for_copies(Pending);
}

}  // namespace tersekv::detail
