// The 1-bit code with error feedback (S section 3), one contract for every instruction set.
//
// A bucket is cut into groups of consecutive values. offsets[g] .. offsets[g + 1] are the values of
// group g, words[g] .. words[g + 1] its 32-bit words of packed signs (little-endian, value i of the
// group is bit i). levels[2 g] and levels[2 g + 1] are the reconstruction levels of bits 0 and 1.
#pragma once
#include <cstdint>

namespace thinwire {

enum class Float : int { f32 = 0, bf16 = 1, f16 = 2 };

struct Layout {
  const int64_t* offsets;  // [groups + 1]
  const int64_t* words;    // [groups + 1]
};

struct Encode {
  const void* gradient;  // [values], of type `gradient_type`
  Float gradient_type;
  float scale;
  const float* residual;  // [values]
  Layout layout;
  float* new_residual;  // [values]; may be `gradient` (when float32) or `residual`
  void* levels;         // [groups, 2], of type `level_type` (f32 or bf16)
  Float level_type;
  uint8_t* bits;  // [4 * words]
};

struct Decode {
  const void* levels;
  Float level_type;
  const uint8_t* bits;
  Layout layout;
  float* out;  // [values]
  bool accumulate;
};

// Process groups first .. last - 1.
using EncodeGroups = void (*)(const Encode&, int64_t first, int64_t last);
using DecodeGroups = void (*)(const Decode&, int64_t first, int64_t last);

struct Kernels {
  const char* isa;
  EncodeGroups encode;
  DecodeGroups decode;
};

namespace baseline { extern const Kernels kernels; }
#if defined(__x86_64__)
namespace avx2 { extern const Kernels kernels; }
namespace avx512 { extern const Kernels kernels; }
#endif

// The best variant this processor runs.
const Kernels& best();
// The variants this processor runs, best last; returns how many.
int available(const Kernels* out[3]);

}  // namespace thinwire
