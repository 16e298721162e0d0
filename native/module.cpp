// Python binding. It takes raw addresses: thinwire/kernels/native.py has checked device, dtype,
// contiguity and sizes, and an address cannot be silently copied or converted on the way.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "kernels.h"

namespace nb = nanobind;
using namespace thinwire;

namespace {

constexpr int64_t values_per_thread = 1 << 19;  // below this a second thread costs more than it saves
constexpr int64_t values_per_tile = 1 << 12;  // half of a first-level cache

const Kernels& named(const std::string& isa) {
  if (isa.empty()) return best();
  const Kernels* found[3];
  for (int n = available(found), i = 0; i < n; ++i)
    if (isa == found[i]->isa) return *found[i];
  throw std::invalid_argument("no kernels for instruction set '" + isa + "' on this processor");
}

template <class T>
T* at(uintptr_t address) { return reinterpret_cast<T*>(address); }

// Run work(first, last) on runs of whole groups of nearly equal size, one run per thread.
template <class Work>
void parallel(const int64_t* offsets, int64_t groups, int threads, Work work) {
  const int64_t values = groups ? offsets[groups] - offsets[0] : 0;
  const int64_t runs = std::clamp<int64_t>(values / values_per_thread, 1, std::max(threads, 1));
  std::vector<std::thread> pool;
  int64_t first = 0;
  for (int64_t run = 1; run <= runs; ++run) {
    const int64_t target = offsets[0] + values * run / runs;
    const int64_t last =
        run == runs ? groups : std::lower_bound(offsets, offsets + groups + 1, target) - offsets;
    if (run == runs) work(first, last);
    else pool.emplace_back(work, first, last);
    first = last;
  }
  for (auto& thread : pool) thread.join();
}

// The addresses of a layout's rows of groups + 1 numbers; the third is there for rotated only.
Layout layout_at(uintptr_t address, int64_t groups) {
  const auto* row = at<const int64_t>(address);
  return {row, row + groups + 1, row + 2 * (groups + 1)};
}

template <EncodeGroups Kernels::*kernel>
void encode(uintptr_t gradient, int gradient_type, float scale, uintptr_t residual,
            uintptr_t layout, int64_t groups, uintptr_t new_residual, uintptr_t levels,
            int level_type, uintptr_t packed, int bits, int threads, const std::string& isa) {
  const EncodeGroups work = named(isa).*kernel;
  const Encode e{at<const void>(gradient), static_cast<Float>(gradient_type), scale,
                 at<const float>(residual), layout_at(layout, groups), at<float>(new_residual),
                 at<void>(levels), static_cast<Float>(level_type), at<uint8_t>(packed), bits};
  nb::gil_scoped_release release;
  parallel(e.layout.offsets, groups, threads,
           [&](int64_t first, int64_t last) { work(e, first, last); });
}

template <DecodeGroups Kernels::*kernel>
void decode(uintptr_t levels, int level_type, uintptr_t packed, int bits, uintptr_t layout,
            int64_t groups, uintptr_t out, bool accumulate, int threads, const std::string& isa) {
  const DecodeGroups work = named(isa).*kernel;
  const Decode d{at<const void>(levels), static_cast<Float>(level_type), at<const uint8_t>(packed),
                 bits, layout_at(layout, groups), at<float>(out), accumulate};
  nb::gil_scoped_release release;
  parallel(d.layout.offsets, groups, threads,
           [&](int64_t first, int64_t last) { work(d, first, last); });
}

// Decode several packets of the same groups and add them in order, a tile at a time, so that all
// additions but the last happen in the first-level cache.
template <DecodeGroups Kernels::*kernel>
void sum(const std::vector<uintptr_t>& levels, int level_type, const std::vector<uintptr_t>& packed,
         int bits, uintptr_t layout, int64_t groups, uintptr_t out, int threads,
         const std::string& isa) {
  const DecodeGroups work = named(isa).*kernel;
  const Layout where = layout_at(layout, groups);
  std::vector<Decode> packets;
  for (size_t k = 0; k < packed.size(); ++k)
    packets.push_back({at<const void>(levels[k]), static_cast<Float>(level_type),
                       at<const uint8_t>(packed[k]), bits, where, at<float>(out), k > 0});
  nb::gil_scoped_release release;
  parallel(where.offsets, groups, threads, [&](int64_t first, int64_t last) {
    while (first < last) {
      int64_t end = first + 1;
      while (end < last && where.offsets[end + 1] - where.offsets[first] <= values_per_tile) ++end;
      for (const Decode& packet : packets) work(packet, first, end);
      first = end;
    }
  });
}

std::vector<std::string> instruction_sets() {
  const Kernels* found[3];
  const int n = available(found);
  std::vector<std::string> names;
  for (int i = 0; i < n; ++i) names.emplace_back(found[i]->isa);
  return names;
}

}  // namespace

NB_MODULE(_native, m) {
#define THINWIRE_ROW(family)                                   \
  m.def(#family "_encode", &encode<&Kernels::family##_encode>); \
  m.def(#family "_decode", &decode<&Kernels::family##_decode>); \
  m.def(#family "_sum", &sum<&Kernels::family##_decode>);
  THINWIRE_FAMILIES(THINWIRE_ROW)
#undef THINWIRE_ROW
  m.def("instruction_sets", &instruction_sets);
}
