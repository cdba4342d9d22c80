# SPDX-License-Identifier: Apache-2.0
# Faults, each planted alone in a copy of a kernel header; the tests must find every one. An entry:
#
#   fault(<what> <header> <program> <build> <found> <text> <becomes>)
#
# <header> as it is included; <program>.cpp stands here, and runs the kernel; <build> is plain, asan or tsan; <found> is
# a regular expression for what the program then says, or empty if it must say nothing and succeed.

fault("nothing, plain" simt/samples.cuh samples plain "" "" "")
fault("nothing, asan" simt/samples.cuh samples asan "" "" "")
fault("nothing, tsan" simt/samples.cuh samples tsan "" "" "")

# Copies
fault("no barrier after the wait for copies" simt/samples.cuh samples plain "wrong result"
      [[__syncthreads();  // the copies]] [[// the copies]])
fault("wait for one group too few" simt/samples.cuh samples plain "copies that nobody waited for"
      [[copy_wait<ahead - 1>]] [[copy_wait<ahead>]])
fault("copies that nobody waits for" simt/samples.cuh samples plain "copies that nobody waited for"
      [[copy_wait<ahead - 1>();]] [[]])
fault("refill of the stage that is read" simt/samples.cuh samples plain "wrong result|nobody waited"
      [[(stage + ahead) % Stages);]] [[stage);]])
fault("refill before the barrier" simt/samples.cuh samples tsan "data race"
      [[copy_wait<ahead - 1>();]]
      [[copy_wait<ahead - 1>(); fetch<Stages>(a, tile + ahead * gridDim.x, (stage + ahead) % Stages);]])
fault("copy past the end" simt/samples.cuh samples asan "heap-buffer-overflow"
      [[left < 4 ? static_cast<int>(left) * 4 : 16]] [[16]])
fault("copy from a misaligned address" simt/samples.cuh samples plain "not a multiple of 16 bytes"
      [[a.in + (valid]] [[a.in + 1 + (valid]])

# Barriers and masks
fault("barrier in a branch" simt/samples.cuh samples plain "different barriers"
      [[of_warp[threadIdx.x / 32] = mine;]] [[of_warp[threadIdx.x / 32] = mine, __syncthreads();]])
fault("no barrier before sums of warps are read" simt/samples.cuh samples tsan "data race"
      [[= mine;
  __syncthreads();]] [[= mine;]])
fault("shuffle in a branch" simt/samples.cuh samples plain "has ended|deadlock"
      [[store(a.out, all);]] [[store(a.out, all + __shfl_xor_sync(all_lanes, 0.0f, 1));]])
fault("mask that leaves lanes out" simt/samples.cuh samples plain "mask leaves it out"
      [[__syncwarp();  // nobody reads]] [[__syncwarp(0xffffu);  // nobody reads]])
fault("tile read before it is written" simt/samples.cuh samples plain "wrong result"
      [[__syncwarp();
    std::uint32_t a]] [[std::uint32_t a]])
fault("tile written while it is read" simt/samples.cuh samples tsan "data race"
      [[__syncwarp();  // nobody reads]] [[// nobody reads]])

# Merge of blocks
fault("no fence before the counter" simt/samples.cuh samples tsan "data race"
      [[__threadfence();
    *is_last]] [[*is_last]])
fault("no fence after the counter" simt/samples.cuh samples tsan "data race"
      [[- 1;
    __threadfence();]] [[- 1;]])
fault("flag read before it is written" simt/samples.cuh samples tsan "data race"
      [[__syncthreads();
  if (*is_last == 0)]] [[if (*is_last == 0)]])
fault("counter that does not wrap" simt/samples.cuh samples plain "wrong result"
      [[atomicInc(a.arrived, gridDim.x - 1)]] [[atomicAdd(a.arrived, 1u)]])
fault("counter reset by a plain store" simt/samples.cuh samples tsan "data race"
      [[- 1;
    __threadfence();]] [[- 1; if (*is_last != 0) *a.arrived = 0; __threadfence();]])

# Addresses
fault("region overflow by one element" simt/samples.cuh samples asan "use-after-poison"
      [[of_warp[threadIdx.x / 32] = mine;]] [[of_warp[threadIdx.x / 32 + 1] = mine;]])
fault("global read past the end" simt/samples.cuh samples asan "heap-buffer-overflow"
      [[b < gridDim.x;]] [[b <= gridDim.x;]])
fault("misaligned 16-byte load" simt/samples.cuh samples plain "not a multiple of 16 bytes"
      [[<const uint4*>(from)]] [[<const uint4*>(from + 1)]])
fault("swizzle on one side" simt/samples.cuh samples plain "wrong result"
      [[tile + chunk_of(lane % 16, lane / 16)]] [[tile + lane % 16 * 2 + lane / 16]])
fault("no swizzle" simt/samples.cuh samples plain "bank conflicts"
      [[(chunk ^ (row >> 2 & 1))]] [[chunk]])
fault("two lanes store to one address" simt/samples.cuh samples tsan "data race"
      [[* 8 + lane % 4 * 2;]] [[* 8 + lane % 4 / 2 * 4;]])
fault("words of a fragment in the wrong order" simt/samples.cuh samples plain "wrong result"
      [[{load(column), load(column + 4)}]] [[{load(column + 4), load(column)}]])

# Kernels of the library
fault("nothing, choice of pages" tersekv/backend/cuda/block.cuh pages tsan "" "" "")
fault("decode: wait for one piece too few" tersekv/backend/cuda/decode.cuh decode plain "wrong result"
      [[copy_wait<T::stages - 2>]] [[copy_wait<T::stages - 1>]])
fault("decode: copies of other lanes" tersekv/backend/cuda/decode.cuh decode tsan "data race"
      [[__syncwarp();  // the copies]] [[// the copies]])
fault("decode: numbers refilled while they are read" tersekv/backend/cuda/decode.cuh decode tsan "data race"
      [[__syncwarp();  // all lanes have read]] [[// all lanes have read]])
fault("merge: splits without rows" tersekv/backend/cuda/merge.cuh decode plain "wrong result"
      [[if (extent.has(s))]] [[if (s >= 0)]])
fault("prompt: tile refilled while it is read" tersekv/backend/cuda/prompt.cuh prompt tsan "data race"
      [[__syncthreads();  // all warps]] [[// all warps]])
fault("apply: counts of warps overwritten" tersekv/backend/cuda/block.cuh apply tsan "data race"
      [[__syncthreads();
  return rank;]] [[return rank;]])
fault("compact: one row too many for a page" tersekv/backend/cuda/compact.cuh apply asan "use-after-poison"
      [[live && rank < wanted)]] [[live && rank <= wanted)]])
fault("apply: page of a fork written in place" tersekv/backend/cuda/head_writer.cuh apply plain "wrong result"
      [[is_alone(mine) ? nullptr]] [[mine != nullptr ? nullptr]])
fault("select: digits counted before bins are empty" tersekv/backend/cuda/block.cuh pages tsan "data race"
      [[s->bins[b] = 0;
    __syncthreads();]] [[s->bins[b] = 0;]])
fault("quest: queries overwritten while they are read" tersekv/backend/cuda/choose_pages.cuh pages tsan "data race"
      [[__syncthreads();
    for (int i]] [[for (int i]])
fault("quest: shuffle of some lanes" tersekv/read/quest.cuh pages plain "has ended|deadlock|different"
      [[i - octet < count]] [[i < count]])
