// From the inputs of a convolution to its outputs, or from their gradient to that of the inputs: over lists of the
// weights that are not zero, or over blocks of all.

namespace {

// The weights of a kernel that are not zero, by output channel, tap and input channel.
struct Lists {
  struct Weight {
    int32_t place;  // in floats, from tap 0 of a pixel
    float value;
  };
  std::vector<int32_t> starts;  // of every (output, tap)
  std::vector<Weight> weights;
};

inline bool is_zero(float value) { return value == 0; }

// Counts the weights of every row [O] of a kernel that are not zero, and returns their sum.
int64_t count_rows(ffi::ThreadPool& pool, const float* kernel, int64_t rows, int64_t columns, int64_t* starts) {
  constexpr int64_t kPart = 256;
  share(pool, (rows + kPart - 1) / kPart, [&](int64_t part) {
    for (int64_t row = part * kPart; row < std::min(rows, (part + 1) * kPart); row++) {
      const float* values = kernel + row * columns;
      int32_t count = 0;
      for (int64_t i = 0; i < columns; i++) count += !is_zero(values[i]);
      starts[row + 1] = count;
    }
  });
  starts[0] = 0;
  for (int64_t row = 0; row < rows; row++) starts[row + 1] += starts[row];
  return starts[rows];
}

Lists list(ffi::ThreadPool& pool, const Convolution& c, const float* kernel, const std::vector<int64_t>& starts) {
  // The kernel is [taps, I, O]; backward, I are the outputs.
  const int64_t taps = c.taps(), columns = c.backward ? c.from.channels : c.to.channels;
  const int64_t inputs = c.backward ? c.to.channels : c.from.channels, rows = taps * inputs;
  struct Found {
    int32_t row, column;
    float value;
  };
  std::vector<Found> found(starts[rows]);
  constexpr int64_t kPart = 256;
  share(pool, (rows + kPart - 1) / kPart, [&](int64_t part) {
    for (int64_t row = part * kPart; row < std::min(rows, (part + 1) * kPart); row++) {
      const float* values = kernel + row * columns;
      int64_t at = starts[row];
      for (int64_t i = 0; at < starts[row + 1]; i++)
        if (!is_zero(values[i])) found[at++] = {int32_t(row), int32_t(i), values[i]};
    }
  });
  Lists lists;
  lists.starts.assign(c.to.channels * taps + 1, 0);
  lists.weights.resize(found.size());
  const auto segment = [&](const Found& f) {
    return (c.backward ? f.row % inputs : f.column) * taps + f.row / inputs;
  };
  for (const Found& f : found) lists.starts[segment(f) + 1]++;
  for (int64_t i = 0; i < c.to.channels * taps; i++) lists.starts[i + 1] += lists.starts[i];
  std::vector<int32_t> at(lists.starts.begin(), lists.starts.end() - 1);
  for (const Found& f : found) {
    const int64_t channel = c.backward ? f.column : f.row % inputs;
    const int64_t place = (c.shift(f.row / inputs) * c.from.channels + channel) * c.batch;
    lists.weights[at[segment(f)]++] = {int32_t(place), f.value};
  }
  return lists;
}

// Neighboring taps that a pixel has, whose weights are places from one base.
struct Run {
  const float* base;
  int64_t first, end;
};

int64_t runs_of(const Convolution& c, const float* from, int64_t pixel, Run* runs) {
  int64_t count = 0;
  for (int64_t tap = 0; tap < c.taps(); tap++) {
    const int64_t source = c.source(pixel, tap);
    if (source < 0) continue;
    const float* base = from + (source - c.shift(tap)) * c.from.channels * c.batch;
    if (count && runs[count - 1].end == tap && runs[count - 1].base == base)
      runs[count - 1].end++;
    else
      runs[count++] = {base, tap, tap + 1};
  }
  return count;
}

// A slice of `vectors` of the batch of some output channels of a pixel.
template <int64_t vectors>
void add_up(const Lists& lists, int64_t taps, const Run* runs, int64_t count, int64_t first, int64_t end, int64_t batch,
            int64_t slice, float* to) {
  const Lists::Weight* weights = lists.weights.data();
  for (int64_t output = first; output < end; output++) {
    Vector sums[vectors] = {};
    for (int64_t r = 0; r < count; r++) {
      const float* base = runs[r].base + slice;
      const int32_t last = lists.starts[output * taps + runs[r].end];
      for (int32_t e = lists.starts[output * taps + runs[r].first]; e < last; e++) {
        const float* values = base + weights[e].place;
        const float weight = weights[e].value;
        for (int64_t v = 0; v < vectors; v++) sums[v] += weight * load(values + v * kLanes);
      }
    }
    for (int64_t v = 0; v < vectors; v++) store(to + output * batch + slice + v * kLanes, sums[v]);
  }
}

// Calls a template's instance of the number of vectors, 1 to `most`.
template <int64_t most, typename Call>
void with_count(int64_t count, const Call& call) {
  if constexpr (most > 1)
    if (count < most) return with_count<most - 1>(count, call);
  call(std::integral_constant<int64_t, most>());
}

void sparse(ffi::ThreadPool& pool, const Convolution& c, const Lists& lists, const float* from, float* to) {
  // Some output channels at a time where there are few pixels.
  const int64_t pixels = c.to.pixels(), parts = std::min<int64_t>(c.to.channels, (64 + pixels - 1) / pixels);
  const int64_t outputs = (c.to.channels + parts - 1) / parts, many = std::max<int64_t>(1, pixels / 256);
  share(pool, (pixels + many - 1) / many * parts, [&](int64_t task) {
    Run runs[kMostTaps];
    const int64_t first = task % parts * outputs, end = std::min(c.to.channels, first + outputs);
    for (int64_t pixel = task / parts * many; pixel < std::min(pixels, (task / parts + 1) * many); pixel++) {
      const int64_t count = runs_of(c, from, pixel, runs);
      for (int64_t slice = 0; slice < c.batch; slice += kLong * kLanes)
        with_count<kLong>(std::min(kLong, (c.batch - slice) / kLanes), [&](auto vectors) {
          add_up<vectors>(lists, c.taps(), runs, count, first, end, c.batch, slice, to + pixel * c.to.channels * c.batch);
        });
    }
  });
}

// The kernel in panels of kHigh output channels, [panels, taps, inputs, kHigh]; missing ones are 0.
std::unique_ptr<float[]> panels_of(ffi::ThreadPool& pool, const Convolution& c, const float* kernel) {
  const int64_t taps = c.taps(), inputs = c.from.channels, outputs = c.to.channels;
  const int64_t panels = (outputs + kHigh - 1) / kHigh;
  std::unique_ptr<float[]> packed(new float[panels * taps * inputs * kHigh]);
  share(pool, panels, [&](int64_t panel) {
    float* to = packed.get() + panel * taps * inputs * kHigh;
    const int64_t real = std::min(kHigh, outputs - panel * kHigh);
    for (int64_t tap = 0; tap < taps; tap++)
      for (int64_t input = 0; input < inputs; input++, to += kHigh)
        for (int64_t j = 0; j < kHigh; j++) {
          const int64_t output = panel * kHigh + j;
          const int64_t place = c.backward ? output * inputs + input : input * outputs + output;
          to[j] = j < real ? kernel[tap * inputs * outputs + place] : 0;
        }
  });
  return packed;
}

template <int64_t vectors>
void multiply(const float* panel, const float* const* sources, const int64_t* taps, int64_t count, int64_t inputs,
              int64_t batch, int64_t first, int64_t end, bool fresh, int64_t real, float* to) {
  Vector sums[kHigh][vectors] = {};
  if (!fresh)
    for (int64_t j = 0; j < real; j++)
      for (int64_t v = 0; v < vectors; v++) sums[j][v] = load(to + j * batch + v * kLanes);
  for (int64_t t = 0; t < count; t++) {
    const float* weights = panel + (taps[t] * inputs + first) * kHigh;
    const float* values = sources[t] + first * batch;
    for (int64_t input = first; input < end; input++, weights += kHigh, values += batch) {
      Vector parts[vectors];
      for (int64_t v = 0; v < vectors; v++) parts[v] = load(values + v * kLanes);
      for (int64_t j = 0; j < kHigh; j++)
        for (int64_t v = 0; v < vectors; v++) sums[j][v] += weights[j] * parts[v];
    }
  }
  for (int64_t j = 0; j < kHigh; j++)
    if (j < real)
      for (int64_t v = 0; v < vectors; v++) store(to + j * batch + v * kLanes, sums[j][v]);
}

void dense(ffi::ThreadPool& pool, const Convolution& c, const float* kernel, const float* from, float* to) {
  const std::unique_ptr<float[]> packed = panels_of(pool, c, kernel);
  const int64_t pixels = c.to.pixels(), inputs = c.from.channels, outputs = c.to.channels;
  const int64_t panels = (outputs + kHigh - 1) / kHigh, parts = std::min(panels, (16 + pixels - 1) / pixels);
  const int64_t some = (panels + parts - 1) / parts;
  // What a slice of the batch takes of so many inputs stays in the second cache. Sums go tap by tap, input by
  // input, as those over lists do: both have the same bits.
  constexpr int64_t kCached = 1600;
  const int64_t step = std::min(inputs, kCached), tap_step = std::max<int64_t>(1, kCached / inputs);
  share(pool, pixels * parts, [&](int64_t task) {
    const float* sources[kMostTaps];
    int64_t taps[kMostTaps], count = 0;
    const int64_t pixel = task / parts, begin = task % parts * some;
    for (int64_t tap = 0; tap < c.taps(); tap++)
      if (const int64_t source = c.source(pixel, tap); source >= 0) {
        taps[count] = tap;
        sources[count++] = from + source * inputs * c.batch;
      }
    float* made = to + pixel * outputs * c.batch;
    for (int64_t slice = 0; slice < c.batch; slice += kWide * kLanes) {
      for (int64_t t = 0; !t || t < count; t += tap_step)  // also where there is none
        for (int64_t first = 0; first < inputs; first += step)
          for (int64_t panel = begin; panel < std::min(panels, begin + some); panel++)
            with_count<kWide>(std::min(kWide, (c.batch - slice) / kLanes), [&](auto vectors) {
              multiply<vectors>(packed.get() + panel * c.taps() * inputs * kHigh, sources + t, taps + t,
                                std::min(tap_step, count - t), inputs, c.batch, first, std::min(inputs, first + step),
                                !t && !first, std::min(kHigh, outputs - panel * kHigh), made + panel * kHigh * c.batch);
            });
      for (int64_t t = 0; t < count; t++) sources[t] += kWide * kLanes;
      made += kWide * kLanes;
    }
  });
}

}  // namespace
