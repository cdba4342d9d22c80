// SPDX-License-Identifier: Apache-2.0
// The only header that includes Eigen. EIGEN_NO_CUDA: Eigen 3.4 read by nvcc prints hundreds of warnings without it.
#pragma once
#if !defined(EIGEN_NO_CUDA)
#define EIGEN_NO_CUDA
#endif
#include <Eigen/Core>

namespace tersekv::detail {

using matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using matrix_map = Eigen::Map<matrix>;
using const_matrix_map = Eigen::Map<const matrix>;

}  // namespace tersekv::detail
