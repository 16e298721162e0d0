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

// One truth value a lane: a mask register where there are such, else all ones or zero.
#if defined(__AVX512F__)
typedef __mmask16 Lanes;
#else
typedef vi Lanes;
#endif

// v[j] >= 0; NaN gives false.
inline Lanes nonnegative(vf v) {
#if defined(__AVX512F__)
  return _mm512_cmp_ps_mask((__m512)v, _mm512_setzero_ps(), _CMP_GE_OQ);
#else
  return v >= vf{};
#endif
}

inline Lanes is_nan(vf v) {
#if defined(__AVX512F__)
  return _mm512_cmp_ps_mask((__m512)v, (__m512)v, _CMP_UNORD_Q);
#else
  return v != v;
#endif
}

// Bit j of the result is lane j.
inline unsigned bits_of(Lanes where) {
#if defined(__AVX512F__)
  return where;
#elif defined(__AVX2__)
  return _mm256_movemask_ps((__m256)where);
#elif defined(__SSE2__)
  return _mm_movemask_ps((__m128)where);
#else
  unsigned mask = 0;
  for (int j = 0; j < width; ++j) mask |= static_cast<unsigned>(where[j] & 1) << j;
  return mask;
#endif
}

// The lanes whose bit is 1.
inline Lanes lanes_of(unsigned bits) {
#if defined(__AVX512F__)
  return static_cast<Lanes>(bits);
#else
  vi bit;
  for (int j = 0; j < width; ++j) bit[j] = 1 << j;
  return (bit & static_cast<int32_t>(bits)) == bit;
#endif
}

// Lane by lane: the first where it holds, else the second.
inline vf select(Lanes where, vf yes, vf no) {
#if defined(__AVX512F__)
  return (vf)_mm512_mask_blend_ps(where, (__m512)no, (__m512)yes);
#else
  return (vf)((where & (vi)yes) | (~where & (vi)no));
#endif
}

// The smaller and the larger of two, lane by lane; the second where either is NaN.
inline vf smaller(vf a, vf b) {
#if defined(__AVX512F__)
  return (vf)_mm512_maskz_min_ps(0xffff, (__m512)a, (__m512)b);
#elif defined(__AVX2__)
  return (vf)_mm256_min_ps((__m256)a, (__m256)b);
#elif defined(__SSE2__)
  return (vf)_mm_min_ps((__m128)a, (__m128)b);
#else
  return select(a < b, a, b);
#endif
}
inline vf larger(vf a, vf b) {
#if defined(__AVX512F__)
  return (vf)_mm512_maskz_max_ps(0xffff, (__m512)a, (__m512)b);
#elif defined(__AVX2__)
  return (vf)_mm256_max_ps((__m256)a, (__m256)b);
#elif defined(__SSE2__)
  return (vf)_mm_max_ps((__m128)a, (__m128)b);
#else
  return select(a > b, a, b);
#endif
}

// sum + v where it holds, or where it does not; elsewhere sum, or that + 0.
inline vf add_where(Lanes where, vf sum, vf v) {
#if defined(__AVX512F__)
  return (vf)_mm512_mask_add_ps((__m512)sum, where, (__m512)sum, (__m512)v);
#else
  return sum + (vf)(where & (vi)v);
#endif
}
inline vf add_elsewhere(Lanes where, vf sum, vf v) {
#if defined(__AVX512F__)
  return (vf)_mm512_mask_add_ps((__m512)sum, static_cast<Lanes>(~where), (__m512)sum, (__m512)v);
#else
  return sum + (vf)(~where & (vi)v);
#endif
}

// Lane j receives lane j ^ h.
template <int h>
inline vf partner(vf x) {
#if defined(__AVX512F__)
  const __m512 y = (__m512)x;  // a full mask costs nothing, and spares a false warning of gcc 12
  if constexpr (h == 1) return (vf)_mm512_maskz_permute_ps(0xffff, y, 0xb1);
  if constexpr (h == 2) return (vf)_mm512_maskz_permute_ps(0xffff, y, 0x4e);
  if constexpr (h == 4) return (vf)_mm512_maskz_shuffle_f32x4(0xffff, y, y, 0xb1);
  if constexpr (h == 8) return (vf)_mm512_maskz_shuffle_f32x4(0xffff, y, y, 0x4e);
#elif defined(__AVX2__)
  if constexpr (h == 1) return (vf)_mm256_permute_ps((__m256)x, 0xb1);
  if constexpr (h == 2) return (vf)_mm256_permute_ps((__m256)x, 0x4e);
  if constexpr (h == 4) return (vf)_mm256_permute2f128_ps((__m256)x, (__m256)x, 1);
#elif defined(__SSE2__)
  if constexpr (h == 1) return (vf)_mm_shuffle_ps((__m128)x, (__m128)x, 0xb1);
  if constexpr (h == 2) return (vf)_mm_shuffle_ps((__m128)x, (__m128)x, 0x4e);
#else
  vf y;
  for (int j = 0; j < width; ++j) y[j] = x[j ^ h];
  return y;
#endif
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
