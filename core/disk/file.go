package disk

import (
	"os"

	"golang.org/x/sys/unix"
)

// File is a file that grows. Its steps can be made to fail like the others'.
type File struct {
	fs   *FS
	path string
	file *os.File
}

// OpenAppend opens a file to write at its end, and makes it if it does not
// exist; then its folder has to be synced.
func (f *FS) OpenAppend(path string, perm os.FileMode) (*File, error) {
	w := &File{fs: f, path: path}
	err := f.step("create", path, "", func() (err error) {
		w.file, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, perm)
		return err
	})
	if err != nil {
		return nil, err
	}
	return w, nil
}

// Write appends.
func (w *File) Write(p []byte) (n int, err error) {
	err = w.fs.step("write", w.path, "", func() error {
		n, err = w.file.Write(p)
		return err
	})
	return n, err
}

// Flush has the kernel begin to write a range, and waits for nothing. It makes
// nothing durable: the Sync that follows has less left to do.
func (w *File) Flush(from, length int64) {
	_ = unix.SyncFileRange(int(w.file.Fd()), from, length, unix.SYNC_FILE_RANGE_WRITE)
}

// Truncate cuts the file at size bytes.
func (w *File) Truncate(size int64) error {
	return w.fs.step("truncate", w.path, "", func() error { return w.file.Truncate(size) })
}

// Sync makes what was written durable.
func (w *File) Sync() error { return w.fs.step("sync", w.path, "", w.file.Sync) }

// Size returns the length in bytes.
func (w *File) Size() (int64, error) {
	info, err := w.file.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// Close closes the file. What was not synced may be lost by a crash.
func (w *File) Close() error { return w.file.Close() }

// Remove removes a file, and syncs no folder.
func (f *FS) Remove(path string) error { return f.remove(path) }
