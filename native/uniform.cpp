// The uniform code of 2, 4 or 8 bits, compiled once per instruction set. Two passes over a group:
// v = scale g + r with its extremes, then q = round((v - low) / step) and v - decoded(v).
//
// Every operation is on one value and rounds once, so that variants agree to the bit.
#include "vector.h"

namespace thinwire {
namespace THINWIRE_ISA {
namespace {

constexpr float largest_float = 3.4028234663852886e38f;
constexpr float largest_bf16 = 3.3895313892515355e38f;
constexpr float smallest_normal = 1.1754943508222875e-38f;
constexpr float round_to_integer = 12582912.0f;  // 1.5 * 2^23: adding it leaves no fraction bits
constexpr int32_t its_bits = 0x4b400000;

typedef uint32_t vu __attribute__((vector_size(4 * width)));

inline vi widen_bytes(const uint8_t* p) {
#if defined(__AVX512F__)
  return (vi)_mm512_maskz_cvtepu8_epi32(0xffff, _mm_loadu_si128((const __m128i*)p));
#elif defined(__AVX2__)
  return (vi)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)p));
#else
  vi x;
  for (int j = 0; j < width; ++j) x[j] = p[j];
  return x;
#endif
}

// Values 0 .. 255 -> bytes.
inline void narrow_to_bytes(vi x, uint8_t* p) {
#if defined(__AVX512F__)
  _mm_storeu_si128((__m128i*)p, _mm512_maskz_cvtepi32_epi8(0xffff, (__m512i)x));
#elif defined(__AVX2__)
  const __m256i y = (__m256i)x;
  const __m128i both = _mm_packs_epi32(_mm256_castsi256_si128(y), _mm256_extracti128_si256(y, 1));
  _mm_storel_epi64((__m128i*)p, _mm_packus_epi16(both, both));
#elif defined(__SSE2__)
  const __m128i both = _mm_packs_epi32((__m128i)x, (__m128i)x);
  const int32_t four = _mm_cvtsi128_si32(_mm_packus_epi16(both, both));
  memcpy(p, &four, sizeof four);
#else
  for (int j = 0; j < width; ++j) p[j] = static_cast<uint8_t>(x[j]);
#endif
}

// The bfloat16 at x or next to it: away from 0, or towards it.
inline float to_bf16(float x, bool away) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  if (away && bits & 0xffffu) bits += 0x10000u;
  bits &= 0xffff0000u;
  memcpy(&x, &bits, sizeof x);
  return x > largest_bf16 ? largest_bf16 : x < -largest_bf16 ? -largest_bf16 : x;
}

// decoded = low + q step, q = 0 .. top. Everything is halved, and no difference of two values formed:
// highest - lowest may overflow.
struct Grid {
  float half_low, half_step, inverse, origin, top;
  Grid(float lowest, float highest, int bits) : top(static_cast<float>((1 << bits) - 1)) {
    float step = highest / top - lowest / top;
    if (step < smallest_normal) step = 0.0f;  // also where all values are equal
    inverse = step > 0.0f ? 1.0f / step : 0.0f;
    origin = lowest * inverse;
    half_step = 0.5f * step;
    half_low = 0.5f * lowest;
  }
  template <class V>
  V at(V q) const {
    const V half = q * half_step + half_low;
    return half + half;
  }
};

struct Extremes {
  vf lowest[parts], highest[parts];
  vi bad[parts];
};

template <class T>
inline void widen_group(const T* g, float scale, const float* r, int64_t n, float* v_out,
                        Extremes& x) {
  const vf limit = broadcast(largest_float);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    for (int p = 0; p < parts; ++p) {
      const int64_t at = i + p * width;
      const vf v = load(g + at) * scale + load(r + at);
      store(v_out + at, v);
      x.lowest[p] = select(v < x.lowest[p], v, x.lowest[p]);
      x.highest[p] = select(v > x.highest[p], v, x.highest[p]);
      x.bad[p] |= ~((vf)((vi)v & 0x7fffffff) <= limit);
    }
  }
  for (; i < n; ++i) {
    const float v = widen(g[i]) * scale + r[i];
    v_out[i] = v;
    if (v < x.lowest[0][0]) x.lowest[0][0] = v;
    if (v > x.highest[0][0]) x.highest[0][0] = v;
    if (!(v <= largest_float && v >= -largest_float)) x.bad[0][0] = -1;
  }
}

// The two levels of a group, outside its values unless bfloat16 does not reach so far.
inline void levels_of(const Extremes& x, int64_t n, float level[2]) {
  const float nan = __builtin_nanf("");
  float lowest = largest_float, highest = -largest_float;
  int32_t bad = 0;
  for (int j = 0; j < lanes; ++j) {
    const float a = x.lowest[j / width][j % width], b = x.highest[j / width][j % width];
    if (a < lowest) lowest = a;
    if (b > highest) highest = b;
    bad |= x.bad[j / width][j % width];
  }
  level[0] = !n ? 0.0f : bad ? nan : to_bf16(lowest, lowest < 0.0f) + 0.0f;  // no -0
  level[1] = !n ? 0.0f : bad ? nan : to_bf16(highest, highest > 0.0f) + 0.0f;
}

// The low `bits` of each of 8 bytes, side by side.
template <int bits>
inline uint64_t squeeze(uint64_t x) {
  x = (x | x >> (8 - bits)) & (bits == 4 ? 0x00ff00ff00ff00ffu : 0x000f000f000f000fu);
  x = (x | x >> (16 - 2 * bits)) & (bits == 4 ? 0x0000ffff0000ffffu : 0x000000ff000000ffu);
  return x | x >> (32 - 4 * bits);
}
template <>
inline uint64_t squeeze<8>(uint64_t x) { return x; }

// 16 values of 0 .. 2^bits - 1 -> 2 * bits bytes.
template <int bits>
inline void pack(const uint8_t* q, uint8_t* packed) {
  for (int half = 0; half < 2; ++half) {
    uint64_t x;
    memcpy(&x, q + 8 * half, sizeof x);
    x = squeeze<bits>(x);
    memcpy(packed + bits * half, &x, bits);
  }
}

// The p-th `width` of 16 packed values.
template <int bits>
inline vi unpack(const uint8_t* packed, int p) {
  if constexpr (bits == 8) return widen_bytes(packed + p * width);
  constexpr int in_word = 32 / bits;
  vu shift, second;
  for (int j = 0; j < width; ++j) {
    shift[j] = j * bits % 32;
    second[j] = j < in_word ? 0u : ~0u;
  }
  uint32_t word[2];
  memcpy(&word[0], packed + p * width / in_word * 4, 4);
  vu x = vu{} + (word[0] >> (p * width % in_word * bits));
  if constexpr (width > in_word) {
    memcpy(&word[1], packed + 4, 4);
    x = (x & ~second) | ((vu{} + word[1]) & second);
  }
  return (vi)(x >> shift & ((1u << bits) - 1));
}

inline int64_t tail_bytes(int64_t values, int bits) { return (values * bits + 31) / 32 * 4; }

// q of one vector, as floats that hold integers (NaN becomes 0), plus round_to_integer.
inline vf shifted(vf v, const Grid& grid) {
  const vf zero{}, top = broadcast(grid.top);
  vf x = v * grid.inverse - grid.origin;
  x = select(x > zero, x, zero);
  x = select(x < top, x, top);
  return x + round_to_integer;
}

// Second pass; it works on cached values, so it also has time to fetch the next group's.
template <int bits, class T>
inline void quantise(float* v, int64_t n, const Grid& grid, uint8_t* packed, const T* next_g,
                     const float* next_r) {
  alignas(16) uint8_t q[lanes];
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    __builtin_prefetch(next_g + i);
    __builtin_prefetch(next_r + i);
    for (int p = 0; p < parts; ++p) {
      float* at = v + i + p * width;
      const vf x = load(at), y = shifted(x, grid);
      narrow_to_bytes((vi)y - its_bits, q + p * width);
      store(at, x - grid.at(y - round_to_integer));
    }
    pack<bits>(q, packed + i / 8 * bits);
  }
  if (i == n) return;
  memset(q, 0, sizeof q);
  for (int j = 0; i + j < n; ++j) {
    const float y = shifted(broadcast(v[i + j]), grid)[0] - round_to_integer;
    q[j] = static_cast<uint8_t>(y);
    v[i + j] -= grid.at(y);
  }
  uint8_t last[2 * bits];
  pack<bits>(q, last);
  memcpy(packed + i / 8 * bits, last, tail_bytes(n - i, bits));
}

template <int bits, class T>
void encode_groups(const Encode& e, int64_t first, int64_t last) {
  for (int64_t group = first; group < last; ++group) {
    const int64_t start = e.layout.offsets[group], n = e.layout.offsets[group + 1] - start;
    const T* g = static_cast<const T*>(e.gradient) + start;
    Extremes x;
    for (int p = 0; p < parts; ++p) {
      x.lowest[p] = broadcast(largest_float);
      x.highest[p] = broadcast(-largest_float);
      x.bad[p] = vi{};
    }
    widen_group(g, e.scale, e.residual + start, n, e.new_residual + start, x);
    float level[2];
    levels_of(x, n, level);
    for (int k = 0; k < 2; ++k) store_level(e.levels, Float::bf16, 2 * group + k, level[k]);
    uint8_t* packed = e.packed + 4 * e.layout.words[group];
    clear_last_word(packed, n * bits);
    quantise<bits>(e.new_residual + start, n, Grid(level[0], level[1], bits), packed, g + n,
                   e.residual + start + n);
  }
}

template <int bits>
void encode_typed(const Encode& e, int64_t first, int64_t last) {
  switch (e.gradient_type) {
    case Float::f32: return encode_groups<bits, float>(e, first, last);
    case Float::bf16: return encode_groups<bits, bf16>(e, first, last);
    case Float::f16: return encode_groups<bits, f16>(e, first, last);
  }
}

template <int bits, bool add>
inline void decode_group(const uint8_t* packed, int64_t n, const Grid& grid, float* out) {
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    for (int p = 0; p < parts; ++p) {
      float* at = out + i + p * width;
      const vi q = unpack<bits>(packed + i / 8 * bits, p);
      const vf value = grid.at(__builtin_convertvector(q, vf));
      store(at, add ? load(at) + value : value);
    }
  }
  for (; i < n; ++i) {
    const int q = packed[i * bits / 8] >> (i * bits % 8) & ((1 << bits) - 1);
    const float value = grid.at(static_cast<float>(q));
    out[i] = add ? out[i] + value : value;
  }
}

template <int bits>
void decode_groups(const Decode& d, int64_t first, int64_t last) {
  for (int64_t group = first; group < last; ++group) {
    const int64_t start = d.layout.offsets[group], n = d.layout.offsets[group + 1] - start;
    const uint8_t* packed = d.packed + 4 * d.layout.words[group];
    const Grid grid(load_level(d.levels, Float::bf16, 2 * group),
                    load_level(d.levels, Float::bf16, 2 * group + 1), bits);
    if (d.accumulate)
      decode_group<bits, true>(packed, n, grid, d.out + start);
    else
      decode_group<bits, false>(packed, n, grid, d.out + start);
  }
}

}  // namespace

void uniform_encode(const Encode& e, int64_t first, int64_t last) {
  switch (e.bits) {
    case 2: return encode_typed<2>(e, first, last);
    case 4: return encode_typed<4>(e, first, last);
    case 8: return encode_typed<8>(e, first, last);
  }
}

void uniform_decode(const Decode& d, int64_t first, int64_t last) {
  switch (d.bits) {
    case 2: return decode_groups<2>(d, first, last);
    case 4: return decode_groups<4>(d, first, last);
    case 8: return decode_groups<8>(d, first, last);
  }
}

}  // namespace THINWIRE_ISA
}  // namespace thinwire
