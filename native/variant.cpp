// The table of one instruction set's kernels.
#include "kernels.h"

#define THINWIRE_NAME_(x) #x
#define THINWIRE_NAME(x) THINWIRE_NAME_(x)

namespace thinwire {
namespace THINWIRE_ISA {

#define THINWIRE_ROW(family) family##_encode, family##_decode,
const Kernels kernels = {THINWIRE_NAME(THINWIRE_ISA), THINWIRE_FAMILIES(THINWIRE_ROW)};
#undef THINWIRE_ROW

}  // namespace THINWIRE_ISA
}  // namespace thinwire
