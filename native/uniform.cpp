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

typedef uint8_t vb __attribute__((vector_size(width), aligned(1), may_alias));

// The bfloat16 at x or next to it: away from 0, or towards it.
inline float to_bf16(float x, bool away) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  if (away && bits & 0xffffu) bits += 0x10000u;
  bits &= 0xffff0000u;
  memcpy(&x, &bits, sizeof x);
  return x > largest_bf16 ? largest_bf16 : x < -largest_bf16 ? -largest_bf16 : x;
}

// low + q step, q = 0 .. top. No difference of two values is formed: it could overflow.
struct Grid {
  float low, step, inverse, origin, top;
  Grid(float lowest, float highest, int bits) : low(lowest), top(static_cast<float>((1 << bits) - 1)) {
    step = highest / top - lowest / top;
    if (step < smallest_normal) step = 0.0f;  // also where all values are equal
    inverse = step > 0.0f ? 1.0f / step : 0.0f;
    origin = lowest * inverse;
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

// Which bits of a word hold 8 values of `bits` bits in pairs, in fours and one in each byte.
template <int bits>
struct Runs {
  static constexpr uint64_t pairs = bits == 4 ? 0x00ff00ff00ff00ffu : 0x000f000f000f000fu;
  static constexpr uint64_t fours = bits == 4 ? 0x0000ffff0000ffffu : 0x000000ff000000ffu;
  static constexpr uint64_t ones = bits == 4 ? 0x0f0f0f0f0f0f0f0fu : 0x0303030303030303u;
};

// The low `bits` of each of 8 bytes, side by side; and back.
template <int bits>
inline uint64_t squeeze(uint64_t x) {
  x = (x | x >> (8 - bits)) & Runs<bits>::pairs;
  x = (x | x >> (16 - 2 * bits)) & Runs<bits>::fours;
  return x | x >> (32 - 4 * bits);
}
template <>
inline uint64_t squeeze<8>(uint64_t x) { return x; }
template <int bits>
inline uint64_t spread(uint64_t x) {
  x = (x | x << (32 - 4 * bits)) & Runs<bits>::fours;
  x = (x | x << (16 - 2 * bits)) & Runs<bits>::pairs;
  return (x | x << (8 - bits)) & Runs<bits>::ones;
}
template <>
inline uint64_t spread<8>(uint64_t x) { return x; }

// 16 values of 0 .. 2^bits - 1 <-> 2 * bits bytes.
template <int bits>
inline void pack(const uint8_t* q, uint8_t* packed) {
  for (int half = 0; half < 2; ++half) {
    uint64_t x;
    memcpy(&x, q + 8 * half, sizeof x);
    x = squeeze<bits>(x);
    memcpy(packed + bits * half, &x, bits);
  }
}
template <int bits>
inline void unpack(const uint8_t* packed, uint8_t* q) {
  for (int half = 0; half < 2; ++half) {
    uint64_t x = 0;
    memcpy(&x, packed + bits * half, bits);
    x = spread<bits>(x);
    memcpy(q + 8 * half, &x, sizeof x);
  }
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
      *reinterpret_cast<vb*>(q + p * width) = __builtin_convertvector((vi)y - its_bits, vb);
      store(at, x - ((y - round_to_integer) * grid.step + grid.low));
    }
    pack<bits>(q, packed + i / 8 * bits);
  }
  if (i == n) return;
  memset(q, 0, sizeof q);
  for (int j = 0; i + j < n; ++j) {
    const float y = shifted(broadcast(v[i + j]), grid)[0] - round_to_integer;
    q[j] = static_cast<uint8_t>(y);
    v[i + j] -= y * grid.step + grid.low;
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
  alignas(16) uint8_t q[lanes];
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    unpack<bits>(packed + i / 8 * bits, q);
    for (int p = 0; p < parts; ++p) {
      float* at = out + i + p * width;
      const vi wide = __builtin_convertvector(*reinterpret_cast<const vb*>(q + p * width), vi);
      const vf value = __builtin_convertvector(wide, vf) * grid.step + grid.low;
      store(at, add ? load(at) + value : value);
    }
  }
  if (i == n) return;
  uint8_t last[2 * bits] = {};
  memcpy(last, packed + i / 8 * bits, tail_bytes(n - i, bits));
  unpack<bits>(last, q);
  for (int j = 0; i + j < n; ++j) {
    const float value = static_cast<float>(q[j]) * grid.step + grid.low;
    out[i + j] = add ? out[i + j] + value : value;
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
