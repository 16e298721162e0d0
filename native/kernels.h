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

// The families of kernels, a row each (thinwire/kernels/schemas.py: FAMILIES). Each is a file of this
// folder with NAME_encode and NAME_decode; everything else is made of this list.
#define THINWIRE_FAMILIES(row) row(sign) row(rotated) row(uniform)

struct Kernels {
  const char* isa;
#define THINWIRE_ROW(family)   \
  EncodeGroups family##_encode; \
  DecodeGroups family##_decode;
  THINWIRE_FAMILIES(THINWIRE_ROW)
#undef THINWIRE_ROW
};

#define THINWIRE_DECLARE(family)                                   \
  void family##_encode(const Encode&, int64_t first, int64_t last); \
  void family##_decode(const Decode&, int64_t first, int64_t last);
#define THINWIRE_VARIANT(isa)         \
  namespace isa {                     \
  extern const Kernels kernels;       \
  THINWIRE_FAMILIES(THINWIRE_DECLARE) \
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
