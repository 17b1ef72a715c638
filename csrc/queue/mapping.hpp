// A sealed memory file, mapped. It has no name to leak: it is handed to exactly its two ends as a descriptor, and is
// gone when the last of them has closed it. Its size is sealed, so a peer cannot shrink it under a reader (SIGBUS).
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstddef>
#include <stdexcept>
#include <string>
#include <utility>

namespace aruntime {

inline constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

// Returns the descriptor of a new memory file of `bytes` zeros. Throws std::runtime_error when the system has none.
inline int create_memory_file(const char* label, std::size_t bytes) {
  const int fd = ::memfd_create(label, MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) throw std::runtime_error("memfd_create failed");
  if (::ftruncate(fd, static_cast<off_t>(bytes)) != 0 || ::fcntl(fd, F_ADD_SEALS, kSeals) != 0) {
    ::close(fd);
    throw std::runtime_error("a memory file could not be sized and sealed");
  }
  return fd;
}

class Mapping {
 public:
  Mapping() = default;
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
  Mapping(Mapping&& other) noexcept { swap(other); }
  Mapping& operator=(Mapping&& other) noexcept {
    swap(other);
    return *this;
  }
  ~Mapping() {
    if (data_) ::munmap(data_, bytes_);
  }

  std::byte* data() const noexcept { return data_; }
  std::size_t bytes() const noexcept { return bytes_; }

 private:
  void swap(Mapping& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
  }

  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace aruntime
