// SPDX-License-Identifier: Apache-2.0
// A callable passed by reference: no allocation, and code that takes one is compiled once instead of once per lambda.
#pragma once
#include <memory>
#include <type_traits>
#include <utility>

namespace tersekv::detail {

template <class Signature>
class function_ref;

template <class R, class... Args>
class function_ref<R(Args...)> {
 public:
  template <class F>
  requires(!std::is_same_v<std::remove_cvref_t<F>, function_ref>)
      function_ref(F&& f)  // NOLINT(bugprone-forwarding-reference-overload): never chosen for a copy
      : object_(const_cast<void*>(static_cast<const void*>(std::addressof(f)))),
        call_([](void* object, Args... args) -> R {
          return (*static_cast<std::remove_reference_t<F>*>(object))(std::forward<Args>(args)...);
        }) {}
  R operator()(Args... args) const { return call_(object_, std::forward<Args>(args)...); }

 private:
  void* object_;
  R (*call_)(void*, Args...);
};

}  // namespace tersekv::detail
