// The three products of a 2-D convolution on a CPU, at the cost of the weights that are not zero, a max-pool's
// gradient and the search for the largest scores: handlers of XLA's foreign function interface.
//
// Arrays [B, H, W, C] lie in memory as [H, W, C, B], so that what a weight does to all images of a batch is one
// run over contiguous floats: y[h, w, o, :] += k[., ., i, o] * x[h', w', i, :]. A kernel [K, L, I, O] lies as
// it is written. A dense layer is a convolution of 1x1 on images of one pixel.
//
// Every sum is taken in an order that follows from the shapes and the kernel alone, whoever computes which part
// of it: results don't depend on the number of threads.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <new>
#include <thread>
#include <type_traits>
#include <vector>

#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

#include "xla/ffi/api/ffi.h"

namespace {

namespace ffi = xla::ffi;

#if defined(__AVX512F__)
constexpr int64_t kLanes = 16, kWide = 4;
#elif defined(__AVX__)
constexpr int64_t kLanes = 8, kWide = 2;
#else
constexpr int64_t kLanes = 4, kWide = 4;
#endif

// A list adds into kLong vectors of the batch at a time; a block of a dense product is kHigh rows of kWide vectors.
constexpr int64_t kLong = 8, kHigh = 6;
constexpr int64_t kMostTaps = 64;

// As it is loaded from anywhere.
typedef float Vector __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));
typedef uint32_t Bits __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));

inline Vector load(const float* from) { return *reinterpret_cast<const Vector*>(from); }
inline void store(float* to, Vector values) { *reinterpret_cast<Vector*>(to) = values; }

int64_t up(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

// Calls work(0) to work(tasks - 1), on this thread and on those of the pool that come. It waits for calls that
// have begun, never for a thread: one that comes late finds nothing to do.
template <typename Work>
void share(ffi::ThreadPool& pool, int64_t tasks, const Work& work) {
  struct State {
    std::atomic<int64_t> next{0}, done{0};
  };
  auto state = std::make_shared<State>();
  auto take = [state, tasks, &work] {
    for (int64_t task; (task = state->next.fetch_add(1)) < tasks;) {
      work(task);
      state->done.fetch_add(1);
    }
  };
  const int64_t helpers = std::min(pool.num_threads(), tasks) - 1;
  for (int64_t i = 0; i < helpers; i++) pool.Schedule(std::function<void()>(take));
  take();
  while (state->done.load() < tasks) std::this_thread::yield();
}

struct Image {
  int64_t height, width, channels;
  int64_t pixels() const { return height * width; }
};

// From the inputs of a convolution to its outputs or, backward, from the gradient of its outputs to that of its
// inputs: what is made at every pixel, of which pixels.
struct Convolution {
  Image from, to;
  int64_t batch;                       // of arrays in memory, a multiple of kLanes
  int64_t rows, columns, stride;       // of the kernel
  int64_t top, left;                   // padding
  bool backward;

  int64_t taps() const { return rows * columns; }

  // The pixel of `from` that a tap takes for a row (or a column) of `to`; -1: none.
  int64_t place(int64_t at, int64_t tap, int64_t padding, int64_t size) const {
    const int64_t moved = backward ? at + padding - tap : at * stride + tap - padding;
    if (!backward) return moved >= 0 && moved < size ? moved : -1;
    return moved >= 0 && moved % stride == 0 && moved / stride < size ? moved / stride : -1;
  }

  int64_t source(int64_t pixel, int64_t tap) const {
    const int64_t row = place(pixel / to.width, tap / columns, top, from.height);
    const int64_t column = place(pixel % to.width, tap % columns, left, from.width);
    return row < 0 || column < 0 ? -1 : row * from.width + column;
  }

  // How far a tap's pixel is from that of tap 0, where that is the same at all pixels; else 0.
  int64_t shift(int64_t tap) const {
    if (backward && stride > 1) return 0;
    const int64_t distance = tap / columns * from.width + tap % columns;
    return backward ? -distance : distance;
  }
};

// A copy of rows of a batch, filled up with zeros to whole vectors.
std::unique_ptr<float[]> widened(ffi::ThreadPool& pool, const float* from, int64_t rows, int64_t batch, int64_t wide) {
  std::unique_ptr<float[]> copy(new float[rows * wide]);
  constexpr int64_t kPart = 1024;
  share(pool, (rows + kPart - 1) / kPart, [&](int64_t part) {
    for (int64_t row = part * kPart; row < std::min(rows, (part + 1) * kPart); row++) {
      std::memcpy(copy.get() + row * wide, from + row * batch, batch * sizeof(float));
      std::memset(copy.get() + row * wide + batch, 0, (wide - batch) * sizeof(float));
    }
  });
  return copy;
}

}  // namespace
