// The kernels proper, compiled once per instruction set (THINWIRE_ISA). Two passes over a group,
// which stays in the first-level cache: v = scale g + r with its sums, then v - decoded(v).
//
// Sums are kept in 16 lanes whatever the vector width, so that all variants agree to the bit.
// No standard-library templates here: the linker could keep this file's copy for slower processors.
#include "sign.h"

#include <string.h>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace thinwire {
namespace THINWIRE_ISA {
namespace {

constexpr int lanes = 16;
constexpr int64_t block = 4096;  // values summed in float before the double total takes over

// `lanes` values as the widest vectors this instruction set has.
#if defined(__AVX512F__)
constexpr int width = 16;
#elif defined(__AVX2__)
constexpr int width = 8;
#else
constexpr int width = 4;
#endif
constexpr int parts = lanes / width;
typedef float vf __attribute__((vector_size(4 * width), aligned(4), may_alias));
typedef int32_t vi __attribute__((vector_size(4 * width), aligned(4), may_alias));

struct bf16 { uint16_t raw; };
struct f16 { _Float16 raw; };

inline float widen(float x) { return x; }
inline float widen(f16 x) { return static_cast<float>(x.raw); }
inline float widen(bf16 x) {
  uint32_t bits = static_cast<uint32_t>(x.raw) << 16;
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

template <class T>
inline vf load(const T* p) {
  float wide[width];
  for (int j = 0; j < width; ++j) wide[j] = widen(p[j]);
  vf v;
  memcpy(&v, wide, sizeof v);
  return v;
}
template <>
inline vf load<float>(const float* p) { return *reinterpret_cast<const vf*>(p); }

inline void store(float* p, vf v) { *reinterpret_cast<vf*>(p) = v; }

// Bit j is v[j] >= 0; NaN gives 0.
inline unsigned nonnegative(vf v) {
#if defined(__AVX512F__)
  return _mm512_cmp_ps_mask((__m512)v, _mm512_setzero_ps(), _CMP_GE_OQ);
#elif defined(__AVX2__)
  return _mm256_movemask_ps(_mm256_cmp_ps((__m256)v, _mm256_setzero_ps(), _CMP_GE_OQ));
#elif defined(__SSE2__)
  return _mm_movemask_ps(_mm_cmpge_ps((__m128)v, _mm_setzero_ps()));
#else
  unsigned mask = 0;
  for (int j = 0; j < width; ++j) mask |= static_cast<unsigned>(v[j] >= 0.0f) << j;
  return mask;
#endif
}

// Lane by lane: the first where the condition (all ones or zero) holds, else the second.
inline vf select(vi condition, vf yes, vf no) {
  return (vf)((condition & (vi)yes) | (~condition & (vi)no));
}

// All ones in lane j where bit j of the mask is set.
inline vi lanes_of(unsigned mask) {
  vi bit;
  for (int j = 0; j < width; ++j) bit[j] = 1 << j;
  return (bit & static_cast<int32_t>(mask)) == bit;
}

inline vf broadcast(float x) { return vf{} + x; }

inline float round_to_bf16(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return x;         // NaN stays NaN
  bits = (bits + 0x7fffu + ((bits >> 16) & 1u)) & 0xffff0000u;  // to nearest, ties to even
  memcpy(&x, &bits, sizeof x);
  return x;
}

inline float store_level(void* levels, Float type, int64_t i, float x) {
  if (type == Float::f32) {
    static_cast<float*>(levels)[i] = x;
    return x;
  }
  x = round_to_bf16(x);
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  static_cast<uint16_t*>(levels)[i] = static_cast<uint16_t>(bits >> 16 | (x != x ? 0x40u : 0u));
  return x;
}

inline float load_level(const void* levels, Float type, int64_t i) {
  if (type == Float::f32) return static_cast<const float*>(levels)[i];
  return widen(static_cast<const bf16*>(levels)[i]);
}

struct Sums {
  double positive = 0, negative = 0;
  int64_t positives = 0;
};

// First pass over one block: write v, its signs, and add up both sides.
template <class T>
inline void accumulate(const T* g, float scale, const float* r, int64_t n, float* v_out,
                       uint8_t* bits, Sums& sums) {
  vf positive[parts] = {}, negative[parts] = {};
  vi count[parts] = {};
  const vf zero{};
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    unsigned mask = 0;
    for (int p = 0; p < parts; ++p) {
      const int64_t at = i + p * width;
      const vf v = load(g + at) * scale + load(r + at);
      store(v_out + at, v);
      const vi is_positive = v >= zero;
      positive[p] += select(is_positive, v, zero);
      negative[p] += select(is_positive, zero, v);
      count[p] -= is_positive;
      mask |= nonnegative(v) << (p * width);
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
    count[j / width][j % width] += is_positive;
    mask |= static_cast<uint16_t>(is_positive << j);
  }
  if (i < n) memcpy(bits + i / 8, &mask, sizeof mask);
  for (int j = 0; j < lanes; ++j) {
    sums.positive += positive[j / width][j % width];
    sums.negative += negative[j / width][j % width];
    sums.positives += count[j / width][j % width];
  }
}

// Second pass: subtract what the receiver will decode. It works on cached values, so it also has
// time to fetch the next group's.
template <class T>
inline void subtract_levels(float* v, int64_t n, float negative, float positive, const T* next_g,
                            const float* next_r) {
  const vf pos = broadcast(positive), neg = broadcast(negative), zero{};
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    __builtin_prefetch(next_g + i);
    __builtin_prefetch(next_r + i);
    for (int p = 0; p < parts; ++p) {
      const vf x = load(v + i + p * width);
      store(v + i + p * width, x - select(x >= zero, pos, neg));
    }
  }
  for (; i < n; ++i) v[i] -= v[i] >= 0.0f ? positive : negative;
}

template <class T>
void encode_typed(const Encode& e, int64_t first, int64_t last) {
  for (int64_t group = first; group < last; ++group) {
    const int64_t start = e.layout.offsets[group], n = e.layout.offsets[group + 1] - start;
    uint8_t* bits = e.bits + 4 * e.layout.words[group];
    if (n % 32) memset(bits + 4 * (n / 32), 0, 4);  // the unused bits of the last word
    Sums sums;
    for (int64_t i = 0; i < n; i += block) {
      const int64_t m = n - i < block ? n - i : block;
      accumulate(static_cast<const T*>(e.gradient) + start + i, e.scale, e.residual + start + i, m,
                 e.new_residual + start + i, bits + i / 8, sums);
    }
    const int64_t negatives = n - sums.positives;
    float level[2];
    level[0] = negatives ? static_cast<float>(sums.negative / negatives) : 0.0f;
    level[1] = sums.positives ? static_cast<float>(sums.positive / sums.positives) : 0.0f;
    for (int bit = 0; bit < 2; ++bit)
      level[bit] = store_level(e.levels, e.level_type, 2 * group + bit, level[bit]);
    subtract_levels(e.new_residual + start, n, level[0], level[1],
                    static_cast<const T*>(e.gradient) + start + n, e.residual + start + n);
  }
}

void encode(const Encode& e, int64_t first, int64_t last) {
  switch (e.gradient_type) {
    case Float::f32: return encode_typed<float>(e, first, last);
    case Float::bf16: return encode_typed<bf16>(e, first, last);
    case Float::f16: return encode_typed<f16>(e, first, last);
  }
}

template <bool add>
inline void decode_group(const uint8_t* bits, float negative, float positive, int64_t n, float* out) {
  const vf pos = broadcast(positive), neg = broadcast(negative);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    uint16_t mask;
    memcpy(&mask, bits + i / 8, sizeof mask);
    for (int p = 0; p < parts; ++p) {
      float* at = out + i + p * width;
      const vf value = select(lanes_of(mask >> (p * width)), pos, neg);
      store(at, add ? load(at) + value : value);
    }
  }
  for (; i < n; ++i) {
    const float value = (bits[i / 8] >> (i % 8) & 1) ? positive : negative;
    out[i] = add ? out[i] + value : value;
  }
}

void decode(const Decode& d, int64_t first, int64_t last) {
  for (int64_t group = first; group < last; ++group) {
    const int64_t start = d.layout.offsets[group], n = d.layout.offsets[group + 1] - start;
    const uint8_t* bits = d.bits + 4 * d.layout.words[group];
    const float negative = load_level(d.levels, d.level_type, 2 * group);
    const float positive = load_level(d.levels, d.level_type, 2 * group + 1);
    if (d.accumulate)
      decode_group<true>(bits, negative, positive, n, d.out + start);
    else
      decode_group<false>(bits, negative, positive, n, d.out + start);
  }
}

}  // namespace

#define THINWIRE_NAME_(x) #x
#define THINWIRE_NAME(x) THINWIRE_NAME_(x)
extern const Kernels kernels;
const Kernels kernels = {THINWIRE_NAME(THINWIRE_ISA), encode, decode};

}  // namespace THINWIRE_ISA
}  // namespace thinwire
