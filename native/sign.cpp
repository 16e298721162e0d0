// The 1-bit code (S section 3), compiled once per instruction set. Two passes over a group, which
// stays in the first-level cache: v = scale g + r with its sums, then v - decoded(v).
//
// Sums are kept in 16 lanes whatever the vector width, so that all variants agree to the bit.
#include "vector.h"

namespace thinwire {
namespace THINWIRE_ISA {
namespace {

constexpr int64_t block = 4096;  // values summed in float before the double total takes over
constexpr int64_t ahead = 512;   // values fetched before their group's first pass

struct Sums {
  double positive = 0, negative = 0;
  int64_t positives = 0;
};

// How many of the first n bits are set; the unused ones of their last word are 0.
inline int64_t ones(const uint8_t* bits, int64_t n) {
  int64_t count = 0;
  for (int64_t i = 0; i < n; i += 32) {
    uint32_t word;
    memcpy(&word, bits + i / 8, sizeof word);
    count += __builtin_popcount(word);
  }
  return count;
}

// First pass over one block: write v, its signs, and add up both sides.
template <class T>
inline void accumulate(const T* g, float scale, const float* r, int64_t n, float* v_out,
                       uint8_t* bits, Sums& sums) {
  vf positive[parts] = {}, negative[parts] = {};
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    unsigned mask = 0;
    for (int p = 0; p < parts; ++p) {
      const int64_t at = i + p * width;
      const vf v = load(g + at) * scale + load(r + at);
      store(v_out + at, v);
      const Lanes is_positive = nonnegative(v);
      positive[p] = add_where(is_positive, positive[p], v);
      negative[p] = add_elsewhere(is_positive, negative[p], v);
      mask |= bits_of(is_positive) << (p * width);
    }
    const uint16_t packed = static_cast<uint16_t>(mask);
    memcpy(bits + i / 8, &packed, sizeof packed);
  }
  uint16_t mask = 0;
  for (int j = 0; i + j < n; ++j) {
    const float v = widen(g[i + j]) * scale + r[i + j];
    v_out[i + j] = v;
    const bool is_positive = v >= 0.0f;
    (is_positive ? positive : negative)[j / width][j % width] += v;
    mask |= static_cast<uint16_t>(is_positive << j);
  }
  if (i < n) memcpy(bits + i / 8, &mask, sizeof mask);
  for (int j = 0; j < lanes; ++j) {
    sums.positive += positive[j / width][j % width];
    sums.negative += negative[j / width][j % width];
  }
  sums.positives += ones(bits, n);
}

// Second pass: subtract what the receiver will decode. It is too short to fetch more of the next
// group than the beginning of its residual: the first pass reads the rest faster by itself.
template <bool streamed>
inline void subtract_levels(const float* v, int64_t n, float negative, float positive, float* out,
                            const float* next_r) {
  const vf pos = broadcast(positive), neg = broadcast(negative);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    if (i < ahead) __builtin_prefetch(next_r + i);
    for (int p = 0; p < parts; ++p) {
      const vf x = load(v + i + p * width);
      const vf left = x - select(nonnegative(x), pos, neg);
      if (streamed)
        stream(out + i + p * width, left);
      else
        store(out + i + p * width, left);
    }
  }
  for (; i < n; ++i) out[i] = v[i] - (v[i] >= 0.0f ? positive : negative);
}

template <class T>
void encode_typed(const Encode& e, int64_t first, int64_t last) {
  alignas(64) float own[block];  // v of one group, where it does not wait in new_residual
  const bool streamable = streams(e, e.layout.offsets[last] - e.layout.offsets[first]);
  for (int64_t group = first; group < last; ++group) {
    const int64_t start = e.layout.offsets[group], n = e.layout.offsets[group + 1] - start;
    float* out = e.new_residual + start;
    const float* next_r = e.residual + start + n;
    const bool streamed = streamable && n <= block && aligned(out);
    float* v = streamed ? own : out;
    uint8_t* bits = e.packed + 4 * e.layout.words[group];
    clear_last_word(bits, n);
    Sums sums;
    for (int64_t i = 0; i < n; i += block) {
      const int64_t m = n - i < block ? n - i : block;
      accumulate(static_cast<const T*>(e.gradient) + start + i, e.scale, e.residual + start + i, m,
                 v + i, bits + i / 8, sums);
    }
    const int64_t negatives = n - sums.positives;
    float level[2];
    level[0] = negatives ? static_cast<float>(sums.negative / negatives) : 0.0f;
    level[1] = sums.positives ? static_cast<float>(sums.positive / sums.positives) : 0.0f;
    for (int bit = 0; bit < 2; ++bit)
      level[bit] = store_level(e.levels, e.level_type, 2 * group + bit, level[bit]);
    if (streamed)
      subtract_levels<true>(v, n, level[0], level[1], out, next_r);
    else
      subtract_levels<false>(v, n, level[0], level[1], out, next_r);
  }
  if (streamable) finish_streams();
}

enum class Deliver { store, add, stream };

template <Deliver how>
inline void decode_group(const uint8_t* bits, float negative, float positive, int64_t n, float* out) {
  const vf pos = broadcast(positive), neg = broadcast(negative);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    uint16_t mask;
    memcpy(&mask, bits + i / 8, sizeof mask);
    for (int p = 0; p < parts; ++p) {
      float* at = out + i + p * width;
      const vf value = select(lanes_of(mask >> (p * width)), pos, neg);
      if constexpr (how == Deliver::stream)
        stream(at, value);
      else
        store(at, how == Deliver::add ? load(at) + value : value);
    }
  }
  for (; i < n; ++i) {
    const float value = (bits[i / 8] >> (i % 8) & 1) ? positive : negative;
    out[i] = how == Deliver::add ? out[i] + value : value;
  }
}

}  // namespace

void sign_encode(const Encode& e, int64_t first, int64_t last) {
  switch (e.gradient_type) {
    case Float::f32: return encode_typed<float>(e, first, last);
    case Float::bf16: return encode_typed<bf16>(e, first, last);
    case Float::f16: return encode_typed<f16>(e, first, last);
  }
}

void sign_decode(const Decode& d, int64_t first, int64_t last) {
  const bool streamable = streams(d, d.layout.offsets[last] - d.layout.offsets[first]);
  for (int64_t group = first; group < last; ++group) {
    const int64_t start = d.layout.offsets[group], n = d.layout.offsets[group + 1] - start;
    const uint8_t* bits = d.packed + 4 * d.layout.words[group];
    const float negative = load_level(d.levels, d.level_type, 2 * group);
    const float positive = load_level(d.levels, d.level_type, 2 * group + 1);
    float* out = d.out + start;
    if (d.accumulate)
      decode_group<Deliver::add>(bits, negative, positive, n, out);
    else if (streamable && aligned(out))
      decode_group<Deliver::stream>(bits, negative, positive, n, out);
    else
      decode_group<Deliver::store>(bits, negative, positive, n, out);
  }
  if (streamable) finish_streams();
}

}  // namespace THINWIRE_ISA
}  // namespace thinwire
