// The uniform code of 2, 4 or 8 bits, compiled once per instruction set. Two passes over a group:
// v = scale g + r with its extremes, then q = round((v - low) / step) and v - decoded(v). Groups are
// short, so each pass runs over several: the levels between them are found side by side.
//
// Every operation is on one value and rounds once, so that variants agree to the bit.
#include "vector.h"

namespace thinwire {
namespace THINWIRE_ISA {
namespace {

constexpr float largest_float = 3.4028234663852886e38f;
constexpr float largest_bf16 = 3.3895313892515355e38f;
constexpr float smallest_normal = 1.1754943508222875e-38f;
constexpr int tile_groups = 16;
constexpr int64_t tile_values = 2560;  // with what is fetched ahead most of a first-level cache

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

// To the nearest integer, ties to even, for values 0 .. 255.
inline vi round_to_integer(vf x) {
#if defined(__AVX512F__)
  return (vi)_mm512_maskz_cvtps_epi32(0xffff, (__m512)x);
#elif defined(__AVX2__)
  return (vi)_mm256_cvtps_epi32((__m256)x);
#elif defined(__SSE2__)
  return (vi)_mm_cvtps_epi32((__m128)x);
#else
  constexpr float no_fraction = 12582912.0f;  // 1.5 * 2^23: adding it leaves no fraction bits
  return (vi)(x + no_fraction) - 0x4b400000;
#endif
}

typedef uint8_t Bytes __attribute__((vector_size(lanes)));
typedef uint8_t Bytes8 __attribute__((vector_size(8)));
typedef uint8_t Bytes4 __attribute__((vector_size(4)));
typedef uint16_t Pairs8 __attribute__((vector_size(16)));
typedef uint16_t Pairs4 __attribute__((vector_size(8)));

// 16 integers 0 .. 255 -> bytes.
inline Bytes narrow(const vi q[parts]) {
#if defined(__AVX512F__)
  return (Bytes)_mm512_maskz_cvtepi32_epi8(0xffff, (__m512i)q[0]);
#elif defined(__AVX2__)
  const __m256i two = _mm256_packs_epi32((__m256i)q[0], (__m256i)q[1]);
  const __m256i one = _mm256_packus_epi16(two, two);
  return (Bytes)_mm_unpacklo_epi32(_mm256_castsi256_si128(one), _mm256_extracti128_si256(one, 1));
#elif defined(__SSE2__)
  return (Bytes)_mm_packus_epi16(_mm_packs_epi32((__m128i)q[0], (__m128i)q[1]),
                                 _mm_packs_epi32((__m128i)q[2], (__m128i)q[3]));
#else
  Bytes x;
  for (int j = 0; j < lanes; ++j) x[j] = static_cast<uint8_t>(q[j / width][j % width]);
  return x;
#endif
}

// The bfloat16 at x or next to it: away from 0, or towards it.
inline vf to_bf16(vf x, vi away) {
  vi bits = (vi)x;
  bits += away & (vi)((bits & 0xffff) != 0) & 0x10000;
  x = (vf)(bits & ~0xffff);
  return smaller(larger(x, broadcast(-largest_bf16)), broadcast(largest_bf16));
}

// decoded = low + q step, q = 0 .. top. Everything is halved, and no difference of two values formed:
// highest - lowest may overflow.
struct Grid {
  float half_low, half_step, inverse, origin, top;
  template <class V>
  V half_at(V q) const { return q * half_step + half_low; }
  template <class V>
  V at(V q) const { return half_at(q) + half_at(q); }
};

constexpr float top_of(int bits) { return static_cast<float>((1 << bits) - 1); }

// 0 also where all values are equal.
template <class V>
inline V step_between(V lowest, V highest, float top) {
  const V step = highest / top - lowest / top;
  return step < smallest_normal ? V{} : step;
}
template <class V>
inline V inverse_of(V step) {
  return step > 0.0f ? 1.0f / step : V{};
}

inline Grid grid_of(float lowest, float step, float inverse, float top) {
  return {0.5f * lowest, 0.5f * step, inverse, lowest * inverse, top};
}

// x - 2 half. Doubling is exact, so the fused form rounds once too.
inline vf without(vf half, vf x) {
#if defined(__AVX512F__)
  return (vf)_mm512_fnmadd_ps((__m512)half, _mm512_set1_ps(2.0f), (__m512)x);
#elif defined(__AVX2__)
  return (vf)_mm256_fnmadd_ps((__m256)half, _mm256_set1_ps(2.0f), (__m256)x);
#else
  return x - (half + half);
#endif
}

struct Extremes {
  vf lowest[parts], highest[parts];
  Lanes nan[parts];
  Extremes() : nan() {
    for (int p = 0; p < parts; ++p) {
      lowest[p] = broadcast(largest_float);
      highest[p] = broadcast(-largest_float);
    }
  }
};

template <class T>
inline void widen(const T* g, float scale, const float* r, int64_t n, float* v_out, Extremes& x) {
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    for (int p = 0; p < parts; ++p) {
      const int64_t at = i + p * width;
      const vf v = load(g + at) * scale + load(r + at);
      store(v_out + at, v);
      x.lowest[p] = smaller(v, x.lowest[p]);
      x.highest[p] = larger(v, x.highest[p]);
      x.nan[p] |= is_nan(v);
    }
  }
  for (; i < n; ++i) {
    const float v = widen(g[i]) * scale + r[i];
    v_out[i] = v;
    x.lowest[0] = smaller(broadcast(v), x.lowest[0]);
    x.highest[0] = larger(broadcast(v), x.highest[0]);
    x.nan[0] |= is_nan(broadcast(v));
  }
}

// The smallest or the largest of all lanes: pick(a, b) is one of the two.
template <class Pick>
inline float picked(const vf v[parts], Pick pick) {
  vf x = v[0];
  for (int p = 1; p < parts; ++p) x = pick(x, v[p]);
  x = pick(x, partner<1>(x));
  x = pick(x, partner<2>(x));
  if constexpr (width >= 8) x = pick(x, partner<4>(x));
  if constexpr (width >= 16) x = pick(x, partner<8>(x));
  return x[0];
}

// What the groups of a tile are quantised to, side by side.
struct Tile {
  alignas(64) float lowest[tile_groups] = {}, highest[tile_groups] = {};
  alignas(64) float step[tile_groups], inverse[tile_groups];
  alignas(64) uint32_t levels[tile_groups];  // as sent: the lowest in the low half

  void set_extremes(int k, const Extremes& x, int64_t n) {
    unsigned nans = 0;
    for (int p = 0; p < parts; ++p) nans |= bits_of(x.nan[p]);
    lowest[k] = nans ? __builtin_nanf("") : n ? picked(x.lowest, smaller) : 0.0f;
    highest[k] = n ? picked(x.highest, larger) : 0.0f;
  }

  // From extremes to levels outside the values, unless bfloat16 does not reach so far, and to steps.
  void find_levels(float top) {
    const vf nan = broadcast(__builtin_nanf(""));
    for (int k = 0; k < tile_groups; k += width) {
      vf low = load(lowest + k), high = load(highest + k);
      const vi good = (vi)(low >= -largest_float) & (vi)(high <= largest_float);
      low = good ? to_bf16(low, (vi)(low < 0.0f)) + 0.0f : nan;  // no -0
      high = good ? to_bf16(high, (vi)(high > 0.0f)) + 0.0f : nan;
      const vf between = step_between(low, high, top);
      store(lowest + k, low);
      store(step + k, between);
      store(inverse + k, inverse_of(between));
      const vu sent = (vu)low >> 16 | ((vu)high & 0xffff0000u);
      memcpy(levels + k, &sent, sizeof sent);
    }
  }
};

// 16 values of 0 .. 2^bits - 1 -> 2 * bits bytes: what is in a pair of bytes goes side by side into
// one, until bytes are full.
template <int bits>
inline void pack(Bytes q, uint8_t* packed) {
  if constexpr (bits == 8) {
    memcpy(packed, &q, sizeof q);
  } else {
    const auto pairs = (Pairs8)q;
    const auto eight = __builtin_convertvector(pairs | pairs >> (8 - bits), Bytes8);
    if constexpr (bits == 4) {
      memcpy(packed, &eight, sizeof eight);
    } else {
      const auto of_four = (Pairs4)eight;
      const auto four = __builtin_convertvector(of_four | of_four >> 4, Bytes4);
      memcpy(packed, &four, sizeof four);
    }
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

// How a group is quantised. Its values lie within its levels, and x below within 0 .. top, but where
// bfloat16 does not reach so far or is NaN.
enum class Deliver { clamp, store, stream };

// q of one vector; 0 for NaN.
template <Deliver how>
inline vi place(vf v, const Grid& grid) {
  vf x = v * grid.inverse - grid.origin;
  if constexpr (how == Deliver::clamp) x = smaller(larger(x, vf{}), broadcast(grid.top));
  return round_to_integer(x);
}

// 16 values of the second pass.
template <int bits, Deliver how>
inline void quantise_lanes(const float* v, const Grid& grid, float* out, uint8_t* packed) {
  vi q[parts];
  for (int p = 0; p < parts; ++p) {
    const vf x = load(v + p * width);
    q[p] = place<how>(x, grid);
    const vf left = without(grid.half_at(__builtin_convertvector(q[p], vf)), x);
    if constexpr (how == Deliver::stream)
      stream(out + p * width, left);
    else
      store(out + p * width, left);
  }
  pack<bits>(narrow(q), packed);
}

// Second pass; it works on cached values, so it also has time to fetch the next tile's residual. Its
// gradient as well would fill a first-level cache of 32 KiB, and be gone again before it is read.
template <int bits, Deliver how>
inline void quantise(const float* v, int64_t n, const Grid& grid, float* out, uint8_t* packed,
                     const float* next_r) {
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    __builtin_prefetch(next_r + i);
    quantise_lanes<bits, how>(v + i, grid, out + i, packed + i / 8 * bits);
  }
  if (i == n) return;
  float rest[lanes];
  for (int j = 0; j < lanes; ++j) rest[j] = i + j < n ? v[i + j] : __builtin_nanf("");  // code 0
  uint8_t last[2 * bits];
  quantise_lanes<bits, Deliver::clamp>(rest, grid, rest, last);
  memcpy(out + i, rest, (n - i) * sizeof *rest);
  memcpy(packed + i / 8 * bits, last, tail_bytes(n - i, bits));
}

// Both passes over groups first .. last - 1; v is as long as they are together.
template <int bits, class T>
inline void encode_tile(const Encode& e, int64_t first, int64_t last, float* v, bool streamable) {
  const int64_t* offsets = e.layout.offsets + first;
  const int count = static_cast<int>(last - first);
  const T* g = static_cast<const T*>(e.gradient) + offsets[0];
  const float *r = e.residual + offsets[0], *next_r = e.residual + offsets[count];
  float* out = e.new_residual + offsets[0];
  Tile tile;
  for (int k = 0; k < count; ++k) {
    const int64_t at = offsets[k] - offsets[0], n = offsets[k + 1] - offsets[k];
    Extremes x;
    widen(g + at, e.scale, r + at, n, v + at, x);
    tile.set_extremes(k, x, n);
  }
  tile.find_levels(top_of(bits));
  memcpy(static_cast<uint32_t*>(e.levels) + first, tile.levels, count * sizeof *tile.levels);
  for (int k = 0; k < count; ++k) {
    const int64_t at = offsets[k] - offsets[0], n = offsets[k + 1] - offsets[k];
    const Grid grid = grid_of(tile.lowest[k], tile.step[k], tile.inverse[k], top_of(bits));
    uint8_t* packed = e.packed + 4 * e.layout.words[first + k];
    clear_last_word(packed, n * bits);
    if (!(tile.lowest[k] > -largest_bf16 && tile.highest[k] < largest_bf16))
      quantise<bits, Deliver::clamp>(v + at, n, grid, out + at, packed, next_r + at);
    else if (streamable && aligned(out + at))
      quantise<bits, Deliver::stream>(v + at, n, grid, out + at, packed, next_r + at);
    else
      quantise<bits, Deliver::store>(v + at, n, grid, out + at, packed, next_r + at);
  }
}

template <int bits, class T>
void encode_groups(const Encode& e, int64_t first, int64_t last) {
  alignas(64) float own[tile_values];  // v, where it does not wait in new_residual
  const int64_t* offsets = e.layout.offsets;
  const bool streamable = streams(e, offsets[last] - offsets[first]);
  while (first < last) {
    int64_t end = first + 1;
    while (end < last && end < first + tile_groups && offsets[end + 1] - offsets[first] <= tile_values)
      ++end;
    const bool fits = offsets[end] - offsets[first] <= tile_values;
    float* v = streamable && fits ? own : e.new_residual + offsets[first];
    encode_tile<bits, T>(e, first, end, v, streamable && fits);
    first = end;
  }
  if (streamable) finish_streams();
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
    const float lowest = load_level(d.levels, Float::bf16, 2 * group);
    const float highest = load_level(d.levels, Float::bf16, 2 * group + 1);
    const Grid grid =
        grid_of(lowest, step_between(lowest, highest, top_of(bits)), 0.0f, top_of(bits));
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
