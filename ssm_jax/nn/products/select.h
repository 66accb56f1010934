// The largest of some integers, exactly and without sorting them.

// How many of them tell roughly where a bound lies, and how many standard deviations of its rank to either side.
constexpr int64_t kSample = 2048;
constexpr double kDeviations = 3;

typedef int32_t Integers __attribute__((vector_size(64), aligned(4), may_alias));
constexpr int64_t kGroup = 16;

// Finds the integer of a rank among those of a part, from the largest on, rank 1.
int32_t nth_largest(std::vector<int32_t>& values, int64_t rank) {
  std::nth_element(values.begin(), values.begin() + (rank - 1), values.end(), std::greater<int32_t>());
  return values[rank - 1];
}

// Those of [low, high), and how many are not below high.
struct Found {
  std::vector<int32_t> between;
  int64_t above = 0;
};

void find(const int32_t* values, int64_t count, int32_t low, int32_t high, Found& found) {
  const Integers lows = Integers{} + low, highs = Integers{} + high;
  Integers above = {};
  std::vector<int32_t>& kept = found.between;
  size_t size = 0;
  int64_t place = 0;
  for (; place + kGroup <= count; place += kGroup) {
    const Integers group = *reinterpret_cast<const Integers*>(values + place);
    const Integers reach_high = group >= highs, inside = (group >= lows) & ~reach_high;
    above -= reach_high;  // -1 where it holds
    int32_t any = 0;
    for (int64_t lane = 0; lane < kGroup; lane++) any |= inside[lane];
    if (!any) continue;
    if (kept.size() < size + kGroup) kept.resize(2 * (size + kGroup));
    int32_t* to = kept.data();
    for (int64_t lane = 0; lane < kGroup; lane++) {
      to[size] = values[place + lane];
      size += inside[lane] & 1;
    }
  }
  kept.resize(size);
  for (int64_t lane = 0; lane < kGroup; lane++) found.above += above[lane];
  for (; place < count; place++) {
    found.above += values[place] >= high;
    if (values[place] >= low && values[place] < high) kept.push_back(values[place]);
  }
}

// Looks for the integer of a rank in [low, high); false if it isn't there.
bool select_between(ffi::ThreadPool& pool, const int32_t* values, int64_t count, int64_t rank, int32_t low,
                    int32_t high, int32_t& bound, int64_t& size) {
  const int64_t parts = 4, part = up((count + parts - 1) / parts, kGroup);
  std::vector<Found> all(parts);
  share(pool, parts, [&](int64_t i) {
    const int64_t from = std::min(i * part, count);
    find(values + from, std::min(part, count - from), low, high, all[i]);
  });
  std::vector<int32_t> between;
  int64_t above = 0;
  for (Found& found : all) {
    above += found.above;
    between.insert(between.end(), found.between.begin(), found.between.end());
  }
  size = between.size();
  if (rank <= above || rank > above + size) return false;
  bound = nth_largest(between, rank - above);
  return true;
}

// Where the last search of a place in memory ended: from one step of training to the next a bound moves little.
// It only says where to look first; what is found doesn't depend on it. The bound is the upper half, to how far
// on either side of it the lower.
struct Hint {
  std::atomic<uint64_t> key{0}, place{0};
};
Hint hints[256];

int32_t saturated(int64_t value) { return std::clamp<int64_t>(value, INT32_MIN, INT32_MAX); }

// The integer of a rank: near the last one, else where a sample says, else among all.
template <typename Sample>
int32_t select(ffi::ThreadPool& pool, const int32_t* values, int64_t count, int64_t rank, const Sample& sample) {
  const uint64_t key = (reinterpret_cast<uint64_t>(values) * 31 + count) * 31 + rank;
  Hint& hint = hints[key * 0x9E3779B97F4A7C15u >> 56];
  int32_t bound;
  int64_t size, reach = 0;
  const auto keep = [&] {
    hint.key = key;
    hint.place = uint64_t(uint32_t(bound)) << 32 | uint32_t(std::clamp<int64_t>(reach, 1, INT32_MAX));
    return bound;
  };
  if (hint.key == key) {
    const uint64_t place = hint.place;
    const int64_t last = int32_t(place >> 32);
    reach = int32_t(place);
    if (select_between(pool, values, count, rank, saturated(last - reach), saturated(last + reach), bound, size)) {
      if (size > 512) reach /= 2;
      return keep();
    }
  }
  const std::vector<int32_t>& sorted = sample();
  const double part = double(rank) / count;
  const double margin = kDeviations * std::sqrt(part * (1 - part) / kSample) + 1.0 / kSample;
  const int64_t near = std::lround((part + margin) * kSample), far = std::lround((part - margin) * kSample) - 1;
  const int32_t low = near > kSample - 1 ? INT32_MIN : sorted[kSample - 1 - near];
  const int32_t high = far < 0 ? INT32_MAX : sorted[kSample - 1 - far];
  reach = std::min(std::max(4 * reach, (int64_t(high) - low) / 64), (int64_t(high) - low) / 4);
  if (select_between(pool, values, count, rank, low, high, bound, size)) return keep();
  std::vector<int32_t> copy(values, values + count);
  return nth_largest(copy, rank);
}

void select_all(ffi::ThreadPool& pool, const int32_t* values, int64_t count, const int32_t* ranks, int64_t number,
                int32_t* bounds) {
  std::vector<int32_t> sorted;
  const auto sample = [&]() -> const std::vector<int32_t>& {
    for (int64_t i = sorted.size(); i < kSample; i++) sorted.push_back(values[i * (count / kSample)]);
    if (!std::is_sorted(sorted.begin(), sorted.end())) std::sort(sorted.begin(), sorted.end());
    return sorted;
  };
  for (int64_t i = 0; i < number; i++) {
    // Ranks from the smallest on are negative.
    const int64_t rank = std::clamp<int64_t>(ranks[i] < 0 ? count + 1 + ranks[i] : ranks[i], 1, count);
    if (count >= 4 * kSample) {
      bounds[i] = select(pool, values, count, rank, sample);
    } else {
      std::vector<int32_t> copy(values, values + count);
      bounds[i] = nth_largest(copy, rank);
    }
  }
}
