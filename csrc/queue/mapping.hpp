// A sealed memory file, mapped. It has no name to leak: it is handed to exactly its two ends as a descriptor, and is
// gone when the last of them has closed it. Its size is sealed, so a peer cannot shrink it under a reader (SIGBUS).
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <cstring>
#include <stdexcept>
#include <string>

namespace aruntime {

inline constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

// Returns the descriptor of a new memory file: `label`, then zeros up to `bytes`. Throws std::runtime_error when the
// system has none to give.
template <typename Label>
int create_memory_file(const char* name, std::size_t bytes, const Label& label) {
  const int fd = ::memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) throw std::runtime_error("memfd_create failed");
  if (::pwrite(fd, &label, sizeof label, 0) != static_cast<ssize_t>(sizeof label) ||
      ::ftruncate(fd, static_cast<off_t>(bytes)) != 0 || ::fcntl(fd, F_ADD_SEALS, kSeals) != 0) {
    ::close(fd);
    throw std::runtime_error("a memory file could not be sized and sealed");
  }
  return fd;
}

class Mapping {
 public:
  // Maps the whole file. The descriptor stays the caller's. Throws std::invalid_argument.
  explicit Mapping(int fd) {
    struct stat status {};
    if (::fstat(fd, &status) != 0) throw std::invalid_argument("not an open descriptor");
    const int seals = ::fcntl(fd, F_GET_SEALS);
    if (seals < 0 || (seals & kSeals) != kSeals) throw std::invalid_argument("not a sealed memory file");
    bytes_ = static_cast<std::size_t>(status.st_size);
    void* place = ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (place == MAP_FAILED) {
      throw std::invalid_argument("a memory file of " + std::to_string(bytes_) + " bytes cannot be mapped");
    }
    data_ = static_cast<std::byte*>(place);
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping() { ::munmap(data_, bytes_); }

  // A copy of what stands at the file's beginning, which the fence keeps the compiler from reading again: it may change.
  // Throws std::invalid_argument when the file is too small for it.
  template <typename Label>
  Label label() const {
    if (bytes_ < sizeof(Label)) throw std::invalid_argument("a memory file of " + std::to_string(bytes_) + " bytes");
    Label label;
    std::memcpy(&label, data_, sizeof label);
    std::atomic_signal_fence(std::memory_order_seq_cst);
    return label;
  }

  std::byte* data() const noexcept { return data_; }
  std::size_t bytes() const noexcept { return bytes_; }

 private:
  std::byte* data_;
  std::size_t bytes_;
};

}  // namespace aruntime
