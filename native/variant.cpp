// The table of one instruction set's kernels.
#include "kernels.h"

#define THINWIRE_NAME_(x) #x
#define THINWIRE_NAME(x) THINWIRE_NAME_(x)

namespace thinwire {
namespace THINWIRE_ISA {

const Kernels kernels = {THINWIRE_NAME(THINWIRE_ISA), sign_encode,    sign_decode,   rotated_encode,
                         rotated_decode,              uniform_encode, uniform_decode};

}  // namespace THINWIRE_ISA
}  // namespace thinwire
