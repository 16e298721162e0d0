// The rotated sign code, compiled once per instruction set: signs and mean magnitudes of
// c = R v, R an orthogonal transform made of H diag(s), H Walsh-Hadamard, on blocks of a group.
//
// A block of p values is transformed by log2(p) stages of butterflies (a, b) -> (a + b, a - b), in
// the order of their distances 1, 2, 4 ...; each is one operation on each value, so that variants
// agree to the bit. Blocks stay in the first-level cache.
#include "vector.h"

namespace thinwire {
namespace THINWIRE_ISA {
namespace {

constexpr int64_t largest_block = 512;

// s = +-1, a hash of the position within the block; the constants are those of "lowbias32".
struct Signs {
  float at[largest_block];
  constexpr Signs() : at() {
    for (uint32_t i = 0; i < largest_block; ++i) {
      uint32_t x = i + 1;
      x = (x ^ (x >> 16)) * 0x7feb352du;
      x = (x ^ (x >> 15)) * 0x846ca68bu;
      at[i] = (x ^ (x >> 16)) >> 31 ? -1.0f : 1.0f;
    }
  }
};
alignas(64) constexpr Signs signs;

// A group's blocks: p is the largest power of two up to 512 that fits; `pieces` are blocks of p
// values, except that the last has p .. 2 p - 1. It is covered by two blocks of p that overlap, the
// second of which transforms what the first left.
struct Blocks {
  int64_t p = largest_block;
  int64_t pieces;
  float norm;  // 1 / sqrt(p)
  explicit Blocks(int64_t n) {
    while (p > n && p > 1) p /= 2;
    pieces = n / p;
    norm = 1.0f;
    int64_t q = p;
    for (; q >= 4; q /= 4) norm *= 0.5f;
    if (q == 2) norm *= 0.707106781186547524f;
  }
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

// log2(r) stages at once, of distances h, 2 h .. r h / 2, in registers.
template <int r>
inline void pass(float* c, int64_t p, int64_t h) {
  for (int64_t base = 0; base < p; base += r * h) {
    for (float* at = c + base; at < c + base + h; at += width) {
      vf x[r];
      for (int k = 0; k < r; ++k) x[k] = load(at + k * h);
#pragma GCC unroll 4
      for (int d = 1; d < r; d *= 2) {
#pragma GCC unroll 8
        for (int k = 0; k < r; ++k) {
          if (k & d) continue;
          const vf a = x[k], b = x[k + d];
          x[k] = a + b;
          x[k + d] = a - b;
        }
      }
      for (int k = 0; k < r; ++k) store(at + k * h, x[k]);
    }
  }
}

// All stages of distance width and more.
inline void far_stages(float* c, int64_t p) {
  int64_t h = width;
  for (; 8 * h <= p; h *= 8) pass<8>(c, p, h);
  if (4 * h <= p) pass<4>(c, p, h), h *= 4;
  if (2 * h <= p) pass<2>(c, p, h);
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

// c <- H (s c) for one block.
inline void rotate_block(float* c, int64_t p, float norm) {
  if (p < lanes) {
    for (int64_t i = 0; i < p; ++i) c[i] *= signs.at[i] * norm;
    return small_transform(c, p);
  }
  const vf factor = broadcast(norm);
  for (int64_t i = 0; i < p; i += width)
    store(c + i, stages(load(c + i) * (load(signs.at + i) * factor)));
  far_stages(c, p);
}

// c <- s (H c) for one block: the inverse.
inline void unrotate_block(float* c, int64_t p, float norm) {
  if (p < lanes) {
    small_transform(c, p);
    for (int64_t i = 0; i < p; ++i) c[i] *= signs.at[i] * norm;
    return;
  }
  for (int64_t i = 0; i < p; i += width) store(c + i, stages(load(c + i)));
  far_stages(c, p);
  const vf factor = broadcast(norm);
  for (int64_t i = 0; i < p; i += width) store(c + i, load(c + i) * (load(signs.at + i) * factor));
}

// The transform of one piece of n = p .. 2 p - 1 values, and its inverse.
inline void rotate(float* c, int64_t n, const Blocks& blocks) {
  rotate_block(c, blocks.p, blocks.norm);
  if (n > blocks.p) rotate_block(c + n - blocks.p, blocks.p, blocks.norm);
}
inline void unrotate(float* c, int64_t n, const Blocks& blocks) {
  if (n > blocks.p) unrotate_block(c + n - blocks.p, blocks.p, blocks.norm);
  unrotate_block(c, blocks.p, blocks.norm);
}

inline vf magnitude(vf x) { return (vf)((vi)x & 0x7fffffff); }

inline float mean_magnitude(const float* c, int64_t n) {
  vf sum[parts] = {};
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes)
    for (int p = 0; p < parts; ++p) sum[p] += magnitude(load(c + i + p * width));
  for (int j = 0; i + j < n; ++j) sum[j / width][j % width] += c[i + j] < 0.0f ? -c[i + j] : c[i + j];
  double total = 0;
  for (int j = 0; j < lanes; ++j) total += sum[j / width][j % width];
  return static_cast<float>(total / n);
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

// c = +-level, by the packed signs.
inline void unpack_signs(const uint8_t* packed, int64_t n, float level, float* c) {
  const vf pos = broadcast(level), neg = broadcast(-level);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    uint16_t mask;
    memcpy(&mask, packed + i / 8, sizeof mask);
    for (int p = 0; p < parts; ++p)
      store(c + i + p * width, select(lanes_of(mask >> (p * width)), pos, neg));
  }
  for (; i < n; ++i) c[i] = (packed[i / 8] >> (i % 8) & 1) ? level : -level;
}

// One piece's decoded values: `first` is the level of what only the first of two blocks covers.
inline void decode_piece(const uint8_t* packed, int64_t n, const Blocks& blocks, float first,
                         float last, float* c) {
  unpack_signs(packed, n, last, c);
  if (n > blocks.p) unpack_signs(packed, n - blocks.p, first, c);
  unrotate(c, n, blocks);
}

template <class T>
void encode_piece(const Encode& e, int64_t start, int64_t n, const Blocks& blocks, int64_t level,
                  uint8_t* packed, bool streamable) {
  alignas(64) float c[2 * largest_block], own[2 * largest_block];
  const T* g = static_cast<const T*>(e.gradient) + start;
  const float* r = e.residual + start;
  float* out = e.new_residual + start;
  const bool streamed = streamable && aligned(out);
  float* v = streamed ? own : out;
  int64_t i = 0;
  for (; i + width <= n; i += width) {
    const vf x = load(g + i) * e.scale + load(r + i);
    store(v + i, x);
    store(c + i, x);
  }
  for (; i < n; ++i) c[i] = v[i] = widen(g[i]) * e.scale + r[i];
  rotate(c, n, blocks);
  pack_signs(c, n, packed);
  const int64_t shared = n - blocks.p;
  float first = 0.0f;
  if (shared) first = store_level(e.levels, e.level_type, level++, mean_magnitude(c, shared));
  const float last =
      store_level(e.levels, e.level_type, level, mean_magnitude(c + shared, blocks.p));
  decode_piece(packed, n, blocks, first, last, c);
  for (i = 0; i + width <= n; i += width) {
    __builtin_prefetch(r + n + i);  // the gradient too costs more than it saves
    const vf left = load(v + i) - load(c + i);
    if (streamed)
      stream(out + i, left);
    else
      store(out + i, left);
  }
  for (; i < n; ++i) out[i] = v[i] - c[i];
}

template <class T>
void encode_typed(const Encode& e, int64_t first, int64_t last) {
  const bool streamable = streams(e, e.layout.offsets[last] - e.layout.offsets[first]);
  for (int64_t group = first; group < last; ++group) {
    const int64_t start = e.layout.offsets[group], n = e.layout.offsets[group + 1] - start;
    uint8_t* packed = e.packed + 4 * e.layout.words[group];
    clear_last_word(packed, n);
    const Blocks blocks(n);
    for (int64_t k = 0; k < blocks.pieces; ++k) {
      const int64_t at = k * blocks.p;
      encode_piece<T>(e, start + at, k + 1 < blocks.pieces ? blocks.p : n - at, blocks,
                      e.layout.levels[group] + k, packed + at / 8, streamable);
    }
  }
  if (streamable) finish_streams();
}

template <bool add>
inline void deliver(const float* c, int64_t n, float* out) {
  int64_t i = 0;
  for (; i + width <= n; i += width)
    store(out + i, add ? load(out + i) + load(c + i) : load(c + i));
  for (; i < n; ++i) out[i] = add ? out[i] + c[i] : c[i];
}

void decode_group(const Decode& d, int64_t group) {
  alignas(64) float c[2 * largest_block];
  const int64_t start = d.layout.offsets[group], n = d.layout.offsets[group + 1] - start;
  const uint8_t* packed = d.packed + 4 * d.layout.words[group];
  const Blocks blocks(n);
  for (int64_t k = 0; k < blocks.pieces; ++k) {
    const int64_t at = k * blocks.p, size = k + 1 < blocks.pieces ? blocks.p : n - at;
    const int64_t level = d.layout.levels[group] + k;
    const float first = load_level(d.levels, d.level_type, level);
    const float last =
        size > blocks.p ? load_level(d.levels, d.level_type, level + 1) : first;
    decode_piece(packed + at / 8, size, blocks, first, last, c);
    if (d.accumulate)
      deliver<true>(c, size, d.out + start + at);
    else
      deliver<false>(c, size, d.out + start + at);
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
