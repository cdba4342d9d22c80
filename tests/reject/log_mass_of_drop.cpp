// SPDX-License-Identifier: Apache-2.0
// expect: tersekv::log_mass: give it a merge policy that folds rows
#include <tersekv/adapt/log_mass.hpp>
#include <tersekv/cache.hpp>
#include <tersekv/evict/h2o.hpp>
#include <tersekv/merge/d2o.hpp>
#if defined(TERSEKV_REJECT)
using recipe = tersekv::cache<tersekv::cpu, tersekv::h2o, tersekv::log_mass<tersekv::drop>>;
#else
using recipe = tersekv::cache<tersekv::cpu, tersekv::h2o, tersekv::log_mass<tersekv::d2o>>;
#endif
static_assert(sizeof(recipe) > 0);
