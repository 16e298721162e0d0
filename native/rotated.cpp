// The rotated sign code, compiled once per instruction set: signs and mean magnitudes of
// c = R v, R an orthogonal transform made of H diag(s), H Walsh-Hadamard, on blocks of a group.
//
// A block of p values is transformed by log2(p) stages of butterflies (a, b) -> (a + b, a - b), in
// the order of their distances 1, 2, 4 ...; each is one operation on each value, so that variants
// agree to the bit. Blocks stay in the first-level cache. What is far away in memory is read and
// written in order: in that of the last stages it takes twice as long.
#include "vector.h"

namespace thinwire {
namespace THINWIRE_ISA {
namespace {

constexpr int64_t largest_block = 512;

// s / sqrt(p) of value i of a block of p at p + i. s = +-1, a hash of the position within the block;
// the constants are those of "lowbias32".
struct Factors {
  float at[2 * largest_block];
  constexpr Factors() : at() {
    for (uint32_t p = 1; p <= largest_block; p *= 2) {
      float norm = 1.0f;
      uint32_t q = p;
      for (; q >= 4; q /= 4) norm *= 0.5f;
      if (q == 2) norm *= 0.707106781186547524f;
      for (uint32_t i = 0; i < p; ++i) {
        uint32_t x = i + 1;
        x = (x ^ (x >> 16)) * 0x7feb352du;
        x = (x ^ (x >> 15)) * 0x846ca68bu;
        at[p + i] = (x ^ (x >> 16)) >> 31 ? -norm : norm;
      }
    }
  }
};
alignas(64) constexpr Factors factors;

// A group's blocks: p is the largest power of two up to 512 that fits; `count` pieces are blocks of p
// values, except that the last has p .. 2 p - 1. It is covered by two blocks of p that overlap, the
// second of which transforms what the first left.
struct Pieces {
  int64_t n, p = largest_block, count;
  explicit Pieces(int64_t n) : n(n) {
    while (p > n && p > 1) p /= 2;
    count = n / p;
  }
  int64_t size(int64_t piece) const { return piece + 1 < count ? p : n - piece * p; }
};

// +1 in the lanes whose bit h is 0, -1 in the others.
template <int h>
inline vf alternating() {
  vf s;
  for (int j = 0; j < width; ++j) s[j] = j & h ? -1.0f : 1.0f;
  return s;
}

// One stage at distance h < width. Multiplying by +-1 is exact, so the fused form rounds once too.
template <int h>
inline vf stage(vf x) {
#if defined(__AVX512F__)
  return (vf)_mm512_fmadd_ps((__m512)x, (__m512)alternating<h>(), (__m512)partner<h>(x));
#elif defined(__AVX2__)
  return (vf)_mm256_fmadd_ps((__m256)x, (__m256)alternating<h>(), (__m256)partner<h>(x));
#else
  return partner<h>(x) + x * alternating<h>();
#endif
}

// All stages within a vector.
inline vf stages(vf x) {
  x = stage<2>(stage<1>(x));
  if constexpr (width >= 8) x = stage<4>(x);
  if constexpr (width >= 16) x = stage<8>(x);
  return x;
}

// log2(r) stages, whose distances are 1, 2 .. r / 2 vectors.
template <int r>
inline void butterflies(vf x[r]) {
#pragma GCC unroll 4
  for (int d = 1; d < r; d *= 2) {
#pragma GCC unroll 16
    for (int k = 0; k < r; ++k) {
      if (k & d) continue;
      const vf a = x[k], b = x[k + d];
      x[k] = a + b;
      x[k + d] = a - b;
    }
  }
}

// The stages within and between r vectors, from what read(place) gives to c.
template <int r, class Read>
inline void near_stages(int64_t first, Read read, float* c) {
  vf x[r];
#pragma GCC unroll 8
  for (int k = 0; k < r; ++k) x[k] = stages(read(first + k * width));
  butterflies<r>(x);
#pragma GCC unroll 8
  for (int k = 0; k < r; ++k) store(c + first + k * width, x[k]);
}

// The stages of distances h, 2 h .. r h / 2, from c to write(place, value).
template <int r, class Write>
inline void far_stages(const float* c, int64_t p, int64_t h, Write write) {
  for (int64_t base = 0; base < p; base += r * h) {
    for (int64_t i = base; i < base + h; i += width) {
      vf x[r];
#pragma GCC unroll 16
      for (int k = 0; k < r; ++k) x[k] = load(c + i + k * h);
      butterflies<r>(x);
#pragma GCC unroll 16
      for (int k = 0; k < r; ++k) write(i + k * h, x[k]);
    }
  }
}

// H of a block of p >= lanes values, from what read(place) gives to write(place, value). The largest
// takes two passes, each in registers.
template <class Read, class Write>
inline void transform(int64_t p, Read read, Write write) {
  alignas(64) float c[largest_block];
  if (p == largest_block) {
    constexpr int64_t h = 8 * width;
    for (int64_t i = 0; i < largest_block; i += h) near_stages<8>(i, read, c);
    return far_stages<largest_block / h>(c, largest_block, h, write);
  }
  const auto keep = [&](int64_t i, vf x) { store(c + i, x); };
  for (int64_t i = 0; i < p; i += width) near_stages<1>(i, read, c);
  int64_t h = width;
  for (; 4 * h <= p; h *= 4) far_stages<4>(c, p, h, keep);
  if (2 * h <= p) far_stages<2>(c, p, h, keep);
  for (int64_t i = 0; i < p; i += width) write(i, load(c + i));
}

inline void small_transform(float* c, int64_t p) {
  for (int64_t h = 1; h < p; h *= 2) {
    for (int64_t i = 0; i < p; ++i) {
      if (i & h) continue;
      const float a = c[i], b = c[i + h];
      c[i] = a + b;
      c[i + h] = a - b;
    }
  }
}

// c <- H (s c) / sqrt(p) for one block.
inline void rotate_block(float* c, int64_t p) {
  const float* factor = factors.at + p;
  if (p >= lanes)
    return transform(p, [&](int64_t i) { return load(c + i) * load(factor + i); },
                     [&](int64_t i, vf x) { store(c + i, x); });
  for (int64_t i = 0; i < p; ++i) c[i] *= factor[i];
  small_transform(c, p);
}

// c <- s (H c) / sqrt(p) for one block: the inverse.
inline void unrotate_block(float* c, int64_t p) {
  const float* factor = factors.at + p;
  if (p >= lanes)
    return transform(p, [&](int64_t i) { return load(c + i); },
                     [&](int64_t i, vf x) { store(c + i, x * load(factor + i)); });
  small_transform(c, p);
  for (int64_t i = 0; i < p; ++i) c[i] *= factor[i];
}

// The transform of one piece of n = p .. 2 p - 1 values, and its inverse.
inline void rotate(float* c, int64_t n, int64_t p) {
  rotate_block(c, p);
  if (n > p) rotate_block(c + n - p, p);
}
inline void unrotate(float* c, int64_t n, int64_t p) {
  if (n > p) unrotate_block(c + n - p, p);
  unrotate_block(c, p);
}

inline vf magnitude(vf x) { return (vf)((vi)x & 0x7fffffff); }

inline float mean_magnitude(const float* c, int64_t n) {
  vf sum[parts] = {};
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes)
    for (int p = 0; p < parts; ++p) sum[p] += magnitude(load(c + i + p * width));
  for (int j = 0; i + j < n; ++j) sum[j / width][j % width] += c[i + j] < 0.0f ? -c[i + j] : c[i + j];
  double total[lanes];
  for (int j = 0; j < lanes; ++j) total[j] = sum[j / width][j % width];
  for (int h = lanes / 2; h > 0; h /= 2)
    for (int j = 0; j < h; ++j) total[j] += total[j + h];
  return static_cast<float>(total[0] / n);
}

inline void pack_signs(const float* c, int64_t n, uint8_t* packed) {
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    unsigned mask = 0;
    for (int p = 0; p < parts; ++p) mask |= bits_of(nonnegative(load(c + i + p * width))) << (p * width);
    const uint16_t both = static_cast<uint16_t>(mask);
    memcpy(packed + i / 8, &both, sizeof both);
  }
  uint16_t mask = 0;
  for (int j = 0; i + j < n; ++j) mask |= static_cast<uint16_t>((c[i + j] >= 0.0f) << j);
  if (i < n) memcpy(packed + i / 8, &mask, sizeof mask);
}

// The signs of values i .. i + width - 1.
inline Lanes lanes_at(const uint8_t* packed, int64_t i) {
  uint16_t mask;
  memcpy(&mask, packed + i / lanes * 2, sizeof mask);
  return lanes_of(mask >> i % lanes);
}

// c = +-level, by the packed signs.
inline void unpack_signs(const uint8_t* packed, int64_t n, float level, float* c) {
  const vf pos = broadcast(level), neg = broadcast(-level);
  int64_t i = 0;
  for (; i + width <= n / lanes * lanes; i += width) store(c + i, select(lanes_at(packed, i), pos, neg));
  for (; i < n; ++i) c[i] = (packed[i / 8] >> (i % 8) & 1) ? level : -level;
}

// Decode one piece, whose first level is `level`, into deliver(place, value).
template <class Packet, class Deliver>
inline void decode_piece(const Packet& from, const uint8_t* packed, int64_t n, int64_t p,
                         int64_t level, Deliver deliver) {
  const float first = load_level(from.levels, from.level_type, level);
  if (n == largest_block) {
    const float* factor = factors.at + p;
    const vf pos = broadcast(first), neg = broadcast(-first);
    alignas(64) float c[largest_block];
    transform(p, [&](int64_t i) { return select(lanes_at(packed, i), pos, neg); },
              [&](int64_t i, vf x) { store(c + i, x); });
    for (int64_t i = 0; i < largest_block; i += width) deliver(i, load(c + i) * load(factor + i));
    return;
  }
  alignas(64) float c[2 * largest_block];
  const float last = n > p ? load_level(from.levels, from.level_type, level + 1) : first;
  unpack_signs(packed, n, last, c);
  if (n > p) unpack_signs(packed, n - p, first, c);
  unrotate(c, n, p);
  int64_t i = 0;
  for (; i + width <= n; i += width) deliver(i, load(c + i));
  for (; i < n; ++i) deliver(i, c[i]);
}

template <class T>
inline void widen(const T* g, float scale, const float* r, int64_t n, float* v) {
  int64_t i = 0;
  for (; i + width <= n; i += width) store(v + i, load(g + i) * scale + load(r + i));
  for (; i < n; ++i) v[i] = widen(g[i]) * scale + r[i];
}

// First pass over one piece of v: its signs and its levels.
inline void quantise_piece(const Encode& e, const float* v, int64_t n, int64_t p, int64_t level,
                           uint8_t* packed) {
  alignas(64) float c[2 * largest_block];
  if (n == largest_block) {
    const float* factor = factors.at + p;
    transform(p, [&](int64_t i) { return load(v + i) * load(factor + i); },
              [&](int64_t i, vf x) { store(c + i, x); });
  } else {
    memcpy(c, v, n * sizeof *c);
    rotate(c, n, p);
  }
  pack_signs(c, n, packed);
  const int64_t shared = n - p;
  if (shared) store_level(e.levels, e.level_type, level++, mean_magnitude(c, shared));
  store_level(e.levels, e.level_type, level, mean_magnitude(c + shared, p));
}

// Second pass: subtract what the receiver will decode, and fetch what the next piece reads first. Its
// gradient as well would cost more than it saves.
template <bool streamed>
struct Subtract {
  const float* v;
  float* out;
  const float* next_r;
  void operator()(int64_t i, vf decoded) const {
    __builtin_prefetch(next_r + i);
    const vf left = load(v + i) - decoded;
    if (streamed)
      stream(out + i, left);
    else
      store(out + i, left);
  }
  void operator()(int64_t i, float decoded) const { out[i] = v[i] - decoded; }
};

// Pieces go one by one through both passes: so fetching what comes next has time to keep up.
template <class T>
void encode_typed(const Encode& e, int64_t first, int64_t last) {
  alignas(64) float own[2 * largest_block];  // v of one piece, where it does not wait in new_residual
  const bool streamable = streams(e, e.layout.offsets[last] - e.layout.offsets[first]);
  for (int64_t group = first; group < last; ++group) {
    const int64_t start = e.layout.offsets[group], n = e.layout.offsets[group + 1] - start;
    const int64_t level = e.layout.levels[group];
    uint8_t* packed = e.packed + 4 * e.layout.words[group];
    clear_last_word(packed, n);
    const T* g = static_cast<const T*>(e.gradient) + start;
    const float* r = e.residual + start;
    float* out = e.new_residual + start;
    const Pieces pieces(n);
    for (int64_t k = 0, at = 0; k < pieces.count; ++k, at += pieces.p) {
      const int64_t size = pieces.size(k);
      const bool streamed = streamable && aligned(out + at);
      float* v = streamed ? own : out + at;
      const float* next_r = r + at + size;
      widen(g + at, e.scale, r + at, size, v);
      quantise_piece(e, v, size, pieces.p, level + k, packed + at / 8);
      if (streamed)
        decode_piece(e, packed + at / 8, size, pieces.p, level + k,
                     Subtract<true>{v, out + at, next_r});
      else
        decode_piece(e, packed + at / 8, size, pieces.p, level + k,
                     Subtract<false>{v, out + at, next_r});
    }
  }
  if (streamable) finish_streams();
}

template <bool add>
struct Deliver {
  float* out;
  void operator()(int64_t i, vf x) const {
    store(out + i, add ? load(out + i) + x : x);
  }
  void operator()(int64_t i, float x) const { out[i] = add ? out[i] + x : x; }
};

void decode_group(const Decode& d, int64_t group) {
  const int64_t start = d.layout.offsets[group], n = d.layout.offsets[group + 1] - start;
  const uint8_t* packed = d.packed + 4 * d.layout.words[group];
  const int64_t level = d.layout.levels[group];
  const Pieces pieces(n);
  for (int64_t k = 0, at = 0; k < pieces.count; ++k, at += pieces.p) {
    float* out = d.out + start + at;
    if (d.accumulate)
      decode_piece(d, packed + at / 8, pieces.size(k), pieces.p, level + k, Deliver<true>{out});
    else
      decode_piece(d, packed + at / 8, pieces.size(k), pieces.p, level + k, Deliver<false>{out});
  }
}

}  // namespace

void rotated_encode(const Encode& e, int64_t first, int64_t last) {
  switch (e.gradient_type) {
    case Float::f32: return encode_typed<float>(e, first, last);
    case Float::bf16: return encode_typed<bf16>(e, first, last);
    case Float::f16: return encode_typed<f16>(e, first, last);
  }
}

void rotated_decode(const Decode& d, int64_t first, int64_t last) {
  for (int64_t group = first; group < last; ++group) decode_group(d, group);
}

}  // namespace THINWIRE_ISA
}  // namespace thinwire
