// SPDX-License-Identifier: Apache-2.0
// Exceptions. A verb that throws has changed nothing: the cache, the sequence and the step are as they were before.
#pragma once
#include <stdexcept>
#include <string>

namespace tersekv {

/// Base of everything the library throws itself.
struct error : std::runtime_error {
  using std::runtime_error::runtime_error;
};
/// A shape, an index or a tuning value that cannot work; the message says what was given and what is allowed.
struct shape_error : error {
  using error::error;
};
/// NaN or infinity in a key or value.
struct value_error : error {
  using error::error;
};
/// A verb called at the wrong time: two open steps on one sequence, an attend before its rows were appended, ...
struct usage_error : error {
  using error::error;
};
/// The pool may not grow any further. The step is still whole: free another sequence and call the verb again.
struct capacity_error : error {
  using error::error;
};
/// A run-time recipe that the program does not list, or that is misspelt; the message lists what is available.
struct recipe_error : error {
  using error::error;
};

}  // namespace tersekv
