// Vectors of the instruction set this is compiled for (THINWIRE_ISA), and the types on the wire.
//
// Everything here has internal linkage and none of it is a standard-library template: the linker
// could keep one file's copy of those for slower processors.
#pragma once
#include <string.h>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "kernels.h"

namespace thinwire {
namespace THINWIRE_ISA {
namespace {

constexpr int lanes = 16;

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

// Store past the caches, to an address aligned to the vector: a value nobody reads soon then costs
// no fetch of its line. `finish_streams` before others may read.
inline void stream(float* p, vf v) {
#if defined(__AVX512F__)
  _mm512_stream_ps(p, (__m512)v);
#elif defined(__AVX2__)
  _mm256_stream_ps(p, (__m256)v);
#elif defined(__SSE2__)
  _mm_stream_ps(p, (__m128)v);
#else
  store(p, v);
#endif
}
inline void finish_streams() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}
inline bool aligned(const void* p) { return reinterpret_cast<uintptr_t>(p) % sizeof(vf) == 0; }

// Whether what is written is memory of its own, and enough of it to be out of the caches when it is
// wanted again.
constexpr int64_t worth_streaming = 1 << 16;  // values
inline bool streams(const Encode& e, int64_t values) {
  return values >= worth_streaming && e.new_residual != e.gradient && e.new_residual != e.residual;
}
inline bool streams(const Decode& d, int64_t values) {
  return values >= worth_streaming && !d.accumulate;
}

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

// The unused bits of a group's last word are 0 whatever was there.
inline void clear_last_word(uint8_t* packed, int64_t bits) {
  if (bits % 32) memset(packed + 4 * (bits / 32), 0, 4);
}

}  // namespace
}  // namespace THINWIRE_ISA
}  // namespace thinwire
