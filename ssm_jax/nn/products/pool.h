// The gradient of a max-pool: that of a window goes to its first maximum in row-major order.

namespace {

struct Pool {
  Image from, to;
  int64_t batch, window, stride;

  // Whether a row (or a column) of the inputs is in no window.
  bool is_left(int64_t at, int64_t count) const { return at % stride >= window || at / stride >= count; }
};

// Of some lanes of a batch, `count` of them real.
Vector load_some(const float* from, int64_t count) {
  Vector values = {};
  std::memcpy(&values, from, count * sizeof(float));
  return values;
}

template <bool apart>
void unpool(const Pool& pool, const float* inputs, const float* outputs, const float* cotangent, int64_t row,
            int64_t first, int64_t end, float* made) {
  const int64_t batch = pool.batch, channels = pool.from.channels;
  for (int64_t column = 0; column < pool.to.width; column++)
    for (int64_t channel = first; channel < end; channel++)
      for (int64_t lane = 0; lane < batch; lane += kLanes) {
        const int64_t count = std::min(kLanes, batch - lane);
        const int64_t at = ((row * pool.to.width + column) * channels + channel) * batch + lane;
        const Vector most = load_some(outputs + at, count), gradient = load_some(cotangent + at, count);
        auto open = most == most;
        for (int64_t tap = 0; tap < pool.window * pool.window; tap++) {
          const int64_t y = row * pool.stride + tap / pool.window, x = column * pool.stride + tap % pool.window;
          const int64_t place = ((y * pool.from.width + x) * channels + channel) * batch + lane;
          const auto hit = (load_some(inputs + place, count) == most) & open;
          open &= ~hit;
          Vector part = (Vector)((Bits)gradient & (Bits)hit);
          if (!apart) part += load_some(made + place, count);
          std::memcpy(made + place, &part, count * sizeof(float));
        }
      }
}

void unpool(ffi::ThreadPool& pool, const Pool& p, const float* inputs, const float* outputs, const float* cotangent,
            float* made) {
  const int64_t row_size = p.from.width * p.from.channels * p.batch;
  if (p.stride < p.window) {  // windows overlap: all of a channel's are one task
    constexpr int64_t kSome = 2;
    share(pool, (p.from.channels + kSome - 1) / kSome, [&](int64_t task) {
      const int64_t first = task * kSome, end = std::min(p.from.channels, first + kSome);
      for (int64_t pixel = 0; pixel < p.from.pixels(); pixel++)
        std::memset(made + (pixel * p.from.channels + first) * p.batch, 0, (end - first) * p.batch * sizeof(float));
      for (int64_t row = 0; row < p.to.height; row++)
        unpool<false>(p, inputs, outputs, cotangent, row, first, end, made);
    });
    return;
  }
  share(pool, (p.from.height + p.stride - 1) / p.stride, [&](int64_t row) {
    for (int64_t y = row * p.stride; y < std::min(p.from.height, (row + 1) * p.stride); y++) {
      float* here = made + y * row_size;
      if (p.is_left(y, p.to.height)) {
        std::memset(here, 0, row_size * sizeof(float));
        continue;
      }
      for (int64_t x = 0; x < p.from.width; x++)
        if (p.is_left(x, p.to.width))
          std::memset(here + x * p.from.channels * p.batch, 0, p.from.channels * p.batch * sizeof(float));
    }
    if (row < p.to.height) unpool<true>(p, inputs, outputs, cotangent, row, 0, p.from.channels, made);
  });
}

}  // namespace
