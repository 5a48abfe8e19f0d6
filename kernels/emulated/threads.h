// Running a kernel's grid.
#pragma once
#include "device.h"

namespace emulated {
// Runs all blocks, one after another, each with so many bytes of dynamic shared memory.
void run(const Bound& kernel, const char* name, dim3 grid, dim3 block, unsigned shared_bytes);
} // namespace emulated
