// The kernels' contract, the same for every instruction set (docs: thinwire/kernels/schemas.py).
//
// A bucket is cut into groups of consecutive values. offsets[g] .. offsets[g + 1] are the values of
// group g, words[g] .. words[g + 1] its 32-bit words of packed codes (little-endian, value i of the
// group begins at bit i * bits a value).
#pragma once
#include <cstdint>

namespace thinwire {

enum class Float : int { f32 = 0, bf16 = 1, f16 = 2 };

struct Layout {
  const int64_t* offsets;  // [groups + 1]
  const int64_t* words;    // [groups + 1]
  const int64_t* levels;   // [groups + 1], rotated only: the others have two levels a group
};

struct Encode {
  const void* gradient;  // [values], of type `gradient_type`
  Float gradient_type;
  float scale;
  const float* residual;  // [values]
  Layout layout;
  float* new_residual;  // [values]; may be `gradient` (when float32) or `residual`
  void* levels;         // of type `level_type` (f32 or bf16)
  Float level_type;
  uint8_t* packed;  // [4 * words]
  int bits;         // a value
};

struct Decode {
  const void* levels;
  Float level_type;
  const uint8_t* packed;
  int bits;  // a value
  Layout layout;
  float* out;  // [values]
  bool accumulate;
};

// Process groups first .. last - 1.
using EncodeGroups = void (*)(const Encode&, int64_t first, int64_t last);
using DecodeGroups = void (*)(const Decode&, int64_t first, int64_t last);

struct Kernels {
  const char* isa;
  EncodeGroups sign_encode;
  DecodeGroups sign_decode;
  EncodeGroups rotated_encode;
  DecodeGroups rotated_decode;
  EncodeGroups uniform_encode;
  DecodeGroups uniform_decode;
};

#define THINWIRE_VARIANT(isa)                                     \
  namespace isa {                                                 \
  extern const Kernels kernels;                                   \
  void sign_encode(const Encode&, int64_t first, int64_t last);    \
  void sign_decode(const Decode&, int64_t first, int64_t last);    \
  void rotated_encode(const Encode&, int64_t first, int64_t last); \
  void rotated_decode(const Decode&, int64_t first, int64_t last); \
  void uniform_encode(const Encode&, int64_t first, int64_t last); \
  void uniform_decode(const Decode&, int64_t first, int64_t last); \
  }
THINWIRE_VARIANT(baseline)
#if defined(__x86_64__)
THINWIRE_VARIANT(avx2)
THINWIRE_VARIANT(avx512)
#endif

// The best variant this processor runs.
const Kernels& best();
// The variants this processor runs, best last; returns how many.
int available(const Kernels* out[3]);

}  // namespace thinwire
