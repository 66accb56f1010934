// The gradient of the kernel: k[t, i, o] = sum over pixels p and images b of x[p + t, i, b] * y[p, o, b]. Of every
// pixel, y is turned to [b, o]; a block is kHigh inputs of kWide vectors of outputs, added to over the batch. With
// bfloat16, what stands for a float is the pair of two neighboring images.

namespace {

typedef uint32_t Pair __attribute__((may_alias));

inline uint32_t rounded(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  const uint32_t even = (bits + 0x7fff + (bits >> 16 & 1)) >> 16, quiet = bits >> 16 | 0x40;
  return (bits & 0x7fffffff) > 0x7f800000 ? quiet : even;
}

// Of `count` floats, an even number, count / 2 pairs.
void to_pairs(const float* from, int64_t count, Pair* to) {
#if defined(__AVX512BF16__)
  int64_t i = 0;
  for (; i + 32 <= count; i += 32)
    _mm512_storeu_si512(to + i / 2, (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(from + i + 16), _mm512_loadu_ps(from + i)));
  for (; i < count; i += 2) to[i / 2] = rounded(from[i]) | rounded(from[i + 1]) << 16;
#else
  for (int64_t i = 0; i < count; i += 2) to[i / 2] = rounded(from[i]) | rounded(from[i + 1]) << 16;
#endif
}

struct Floats {
  static constexpr int64_t images = 1;  // of an element
  static Vector add(Vector sums, const float* one, Vector many) { return sums + *one * many; }
};

struct Pairs {
  static constexpr int64_t images = 2;
  static Vector add(Vector sums, const float* one, Vector many) {
    uint32_t bits;
    std::memcpy(&bits, one, 4);
#if defined(__AVX512BF16__)
    return (Vector)_mm512_dpbf16_ps((__m512)sums, (__m512bh)_mm512_set1_epi32(int32_t(bits)), (__m512bh)many);
#else
    float low, high;
    const uint32_t low_bits = bits << 16, high_bits = bits & 0xffff0000;
    std::memcpy(&low, &low_bits, 4);
    std::memcpy(&high, &high_bits, 4);
    const Bits lows = (Bits)many << 16, highs = (Bits)many & 0xffff0000u;
    return sums + low * (Vector)lows + high * (Vector)highs;
#endif
  }
};

template <typename Kind, int64_t high, int64_t vectors>
void accumulate(const float* x, int64_t x_stride, const float* y, int64_t length, bool fresh, float* k, int64_t k_stride) {
  Vector sums[high][vectors] = {};
  if (!fresh)
    for (int64_t i = 0; i < high; i++)
      for (int64_t v = 0; v < vectors; v++) sums[i][v] = load(k + i * k_stride + v * kLanes);
  for (int64_t b = 0; b < length; b++, y += vectors * kLanes) {
    Vector parts[vectors];
    for (int64_t v = 0; v < vectors; v++) parts[v] = load(y + v * kLanes);
    for (int64_t i = 0; i < high; i++)
      for (int64_t v = 0; v < vectors; v++) sums[i][v] = Kind::add(sums[i][v], x + i * x_stride + b, parts[v]);
  }
  for (int64_t i = 0; i < high; i++)
    for (int64_t v = 0; v < vectors; v++) store(k + i * k_stride + v * kLanes, sums[i][v]);
}

// [rows, length] to panels [panels, length, kWide * kLanes] (the last one narrower); missing rows are 0.
void turn(const float* from, int64_t rows, int64_t length, float* to) {
  for (int64_t first = 0; first < rows; first += kWide * kLanes) {
    const int64_t width = std::min(up(rows - first, kLanes), kWide * kLanes);
    for (int64_t lane = 0; lane < width; lane += kLanes)
      for (int64_t b = 0; b < length; b++)
        for (int64_t i = 0; i < kLanes; i++) {
          const int64_t row = first + lane + i;
          to[b * width + lane + i] = row < rows ? from[row * length + b] : 0;
        }
    to += width * length;
  }
}

template <typename Kind>
void of_kernel_in(ffi::ThreadPool& pool, const Convolution& c, const float* x, const float* y, float* kernel) {
  const int64_t inputs = c.from.channels, outputs = c.to.channels, wide = up(outputs, kLanes), taps = c.taps();
  const int64_t length = c.batch / Kind::images, size = taps * inputs * wide, columns = kWide * kLanes;
  // Tasks are some rows of pixels and some inputs; what they are follows from the shapes.
  const int64_t slabs = std::min<int64_t>(c.to.height, std::max<int64_t>(1, std::min<int64_t>(4, (1 << 20) / size)));
  const int64_t high = (c.to.height + slabs - 1) / slabs;
  const int64_t groups = (inputs + kHigh - 1) / kHigh, parts = std::min<int64_t>(groups, std::max<int64_t>(1, 8 / slabs));
  const int64_t some = (groups + parts - 1) / parts * kHigh;
  const bool direct = slabs == 1 && wide == outputs;
  std::unique_ptr<float[]> sums(direct ? nullptr : new float[slabs * size]);
  std::unique_ptr<float[]> turned(new float[slabs * parts * wide * length]), halved;
  std::unique_ptr<Pair[]> y_pairs;
  if (Kind::images == 2) {
    halved.reset(new float[c.from.pixels() * inputs * length]);
    y_pairs.reset(new Pair[slabs * parts * outputs * length]);
    share(pool, c.from.pixels(), [&](int64_t pixel) {
      to_pairs(x + pixel * inputs * c.batch, inputs * c.batch, reinterpret_cast<Pair*>(halved.get()) + pixel * inputs * length);
    });
    x = halved.get();
  }
  share(pool, slabs * parts, [&](int64_t task) {
    const int64_t slab = task / parts, begin = task % parts * some, end = std::min(inputs, begin + some);
    float* made = direct ? kernel : sums.get() + slab * size;
    float* own = turned.get() + task * wide * length;
    bool fresh[kMostTaps];
    std::fill_n(fresh, taps, true);
    for (int64_t pixel = slab * high * c.to.width; pixel < std::min(c.to.height, (slab + 1) * high) * c.to.width; pixel++) {
      const float* here = y + pixel * outputs * c.batch;
      if (Kind::images == 2) {
        Pair* pairs = y_pairs.get() + task * outputs * length;
        to_pairs(here, outputs * c.batch, pairs);
        here = reinterpret_cast<const float*>(pairs);
      }
      turn(here, outputs, length, own);
      for (int64_t tap = 0; tap < taps; tap++) {
        const int64_t source = c.source(pixel, tap);
        if (source < 0) continue;
        for (int64_t o = 0; o < outputs; o += columns)
          with_count<kWide>(std::min(kWide, (wide - o) / kLanes), [&](auto vectors) {
            for (int64_t i = begin; i < end; i += kHigh)
              with_count<kHigh>(std::min(kHigh, end - i), [&](auto rows) {
                accumulate<Kind, rows, vectors>(x + (source * inputs + i) * length, length, own + o * length, length,
                                                fresh[tap], made + (tap * inputs + i) * wide + o, wide);
              });
          });
        fresh[tap] = false;
      }
    }
    for (int64_t tap = 0; tap < taps; tap++)
      if (fresh[tap] && begin < end) std::memset(made + (tap * inputs + begin) * wide, 0, (end - begin) * wide * sizeof(float));
  });
  if (direct) return;
  share(pool, taps, [&](int64_t tap) {
    for (int64_t row = tap * inputs; row < (tap + 1) * inputs; row++)
      for (int64_t o = 0; o < outputs; o++) {
        float sum = sums[row * wide + o];
        for (int64_t slab = 1; slab < slabs; slab++) sum += sums[slab * size + row * wide + o];
        kernel[row * outputs + o] = sum;
      }
  });
}

}  // namespace
