// Large pages. Arrays go through memory in steps of a whole batch, each of which would soon be on a page of its
// own; and XLA has new memory in every call of a program, whose small pages take as long to get as to fill.

#if defined(__linux__)
#include <sys/mman.h>

#include <cstdio>
#include <mutex>
#endif

namespace {

#if defined(__linux__)

bool enlarge(uintptr_t begin, uintptr_t end) {
  return !madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
}

// Asks for large pages for an array that is about to be written, and for all that lies in its mapping: of XLA
// that is what a whole program needs.
void enlarge_mapping(const void* array) {
  static std::mutex mutex;
  static uintptr_t begin = 0, end = 0;  // of the mapping that was found last
  const std::lock_guard<std::mutex> lock(mutex);
  const uintptr_t place = reinterpret_cast<uintptr_t>(array);
  if (place >= begin && place < end && enlarge(begin, end)) return;
  FILE* maps = std::fopen("/proc/self/maps", "r");
  if (!maps) return;
  char line[512];
  unsigned long from, to;
  while (std::fgets(line, sizeof line, maps))
    if (std::sscanf(line, "%lx-%lx", &from, &to) == 2 && place >= from && place < to) {
      begin = from;
      end = to;
      enlarge(begin, end);
      break;
    }
  std::fclose(maps);
}

#else

void enlarge_mapping(const void*) {}

#endif

}  // namespace
