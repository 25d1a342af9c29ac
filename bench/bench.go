package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// bench is what the groups share.
type bench struct {
	options
	dir    string // temporary
	table  table
	folder int      // how many were made
	made   []string // those of the group that runs
	large  string   // the data folder with many projects, once made
}

// fresh returns a new folder on the disk that is measured. It is gone when its
// group has ended, unless it is the large one.
func (b *bench) fresh(name string) (string, error) {
	b.folder++
	path := filepath.Join(b.dir, fmt.Sprintf("%02d-%s", b.folder, name))
	b.made = append(b.made, path)
	return path, os.Mkdir(path, 0o700)
}

// clear removes the folders of a group that has ended: the next ones would
// else run on a disk that fills.
func (b *bench) clear() error {
	var failed []error
	for _, path := range b.made {
		if path != b.large {
			failed = append(failed, os.RemoveAll(path))
		}
	}
	b.made = nil
	return errors.Join(failed...)
}

// scale is how much is measured.
type scale struct {
	lasts    time.Duration // one load
	rounds   int           // of what is done some times, for the middle one
	projects int           // in the large folder
	most     int           // clients: loads of more are left out
	files    fileScale
}

var (
	whole = scale{lasts: 5 * time.Second, rounds: 5, projects: 100_000, most: 512,
		files: fileScale{count: 1000, bytes: 2 << 30, slow: 1000}}
	quick = scale{lasts: 500 * time.Millisecond, rounds: 1, projects: 10_000, most: 512,
		files: fileScale{count: 300, bytes: 256 << 20, slow: 200}}
)

// clients returns the numbers of clients that the scale allows.
func (s scale) clients(all ...int) []int {
	return slices.DeleteFunc(all, func(n int) bool { return n > s.most })
}

// measure runs a load twice: briefly, for connections, caches and the
// scheduler to settle, then for the figures.
func (b *bench) measure(ctx context.Context, clients int, open func(client int) (session, error)) (*result, error) {
	if _, err := drive(ctx, clients, b.lasts/5, open); err != nil {
		return nil, err
	}
	return drive(ctx, clients, b.lasts, open)
}

// build makes the binary under test as `make build` does.
func build(ctx context.Context, path string) error {
	var said bytes.Buffer
	c := exec.CommandContext(ctx, "go", "build", "-tags", "duckdb_arrow", "-o", path, "github.com/eiderdb/eider/cmd/eider")
	c.Stdout, c.Stderr = &said, &said
	if err := c.Run(); err != nil {
		return fmt.Errorf("build eider (run this inside the repository, or give -eider): %w\n%s", err, said.Bytes())
	}
	return nil
}

// machine says by what the figures were made: kind and size, no names.
func machine(dir string) string {
	return fmt.Sprintf("%s/%s, %d cores, %s, data on %s; server and clients share the machine",
		runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version(), filesystem(dir))
}

var filesystems = map[int64]string{
	unix.EXT4_SUPER_MAGIC: "ext4", unix.XFS_SUPER_MAGIC: "xfs", unix.BTRFS_SUPER_MAGIC: "btrfs",
	unix.OVERLAYFS_SUPER_MAGIC: "overlayfs", unix.NFS_SUPER_MAGIC: "nfs",
	unix.TMPFS_MAGIC: "tmpfs, WHERE AN FSYNC COSTS NOTHING: give -dir",
}

func filesystem(dir string) string {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return "an unknown file system"
	}
	if name := filesystems[int64(s.Type)]; name != "" {
		return name
	}
	return fmt.Sprintf("a file system of type %#x", s.Type)
}
