// Which compiled variant this processor runs.
#include "kernels.h"

namespace thinwire {

int available(const Kernels* out[3]) {
  int n = 0;
  out[n++] = &baseline::kernels;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) out[n++] = &avx2::kernels;
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
    out[n++] = &avx512::kernels;
#endif
  return n;
}

const Kernels& best() {
  const Kernels* found[3];
  return *found[available(found) - 1];
}

}  // namespace thinwire
