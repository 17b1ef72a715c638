"""A file of settings that is read again when it changes, without a thread or a signal from the kernel."""

from pathlib import Path


class WatchedFile:
    """Look at it now and then; with no path it never changes."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._seen = self._read = self._mark()

    def has_changed(self) -> bool:
        """Whether it is another file than was read, and the same as at the last look: nobody is writing it now."""
        seen, self._seen = self._seen, self._mark()
        return self._seen == seen and seen != self._read

    def begin_reading(self) -> None:
        """It is about to be read; what changes from now on is a change."""
        self._read = self._mark()

    def _mark(self) -> tuple[int, ...] | None:
        """What changes when the file does: written in place, replaced, or with another mode."""
        try:
            status = self.path.stat() if self.path is not None else None
        except OSError:
            return None
        return status and (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
