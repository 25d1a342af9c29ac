package confine

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// oomScore is added to the share of memory, in thousandths, by which the kernel
// chooses whom to kill: a worker goes before the server and most others.
const oomScore = 800

// raiseOOMScore lets the kernel kill this process before its parent. The score
// is never lowered, which would need a privilege.
func raiseOOMScore() error {
	const path = "/proc/self/oom_score_adj"
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	now, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	if now >= oomScore {
		return nil
	}
	return os.WriteFile(path, []byte(strconv.Itoa(oomScore)), 0)
}

// setLimits sets the limits of resources, hard and soft. Processes are not
// counted: that limit is one of the user's, over all workers and the server. An
// error is one by which the sizes make no sense.
func (l Limits) setLimits(s *State) error {
	base, err := addressSpace()
	switch {
	case l.Memory == 0:
		s.Memory = Layer{Why: "no limit was asked for"}
	case err != nil:
		s.Memory = layer(err)
	case l.Memory > math.MaxInt64-base:
		return fmt.Errorf("a memory budget of %d bytes is beyond all addresses", l.Memory)
	default:
		s.Memory = layer(lower("RLIMIT_AS", unix.RLIMIT_AS, base+l.Memory))
	}
	if l.FileSize == 0 {
		s.FileSize = Layer{Why: "no limit was asked for"}
	} else {
		// By default the signal ends the process at the first write beyond. Go drops
		// it while nobody asks for it, on which C and C++ threads need not rely.
		signal.Ignore(syscall.SIGXFSZ)
		s.FileSize = layer(lower("RLIMIT_FSIZE", unix.RLIMIT_FSIZE, l.FileSize))
	}
	s.CoreDumps = layer(lower("RLIMIT_CORE", unix.RLIMIT_CORE, 0))
	s.Files = Layer{Holds: true, Why: "as inherited"}
	if l.Files != 0 {
		s.Files = layer(lower("RLIMIT_NOFILE", unix.RLIMIT_NOFILE, l.Files))
	}
	return nil
}

// lower sets a limit, hard and soft, but never above the hard one there is.
func lower(name string, resource int, limit int64) error {
	var now unix.Rlimit
	if err := unix.Getrlimit(resource, &now); err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	to := min(uint64(limit), now.Max)
	if err := unix.Setrlimit(resource, &unix.Rlimit{Cur: to, Max: to}); err != nil {
		return fmt.Errorf("set %s to %d: %w", name, to, err)
	}
	return nil
}

// addressSpace returns how many bytes of addresses the process has now.
func addressSpace() (int64, error) {
	const path = "/proc/self/statm"
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("without /proc the base is not known: %w", err)
	}
	if err != nil {
		return 0, err
	}
	size, _, _ := strings.Cut(string(text), " ")
	pages, err := strconv.ParseInt(size, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", path, err)
	}
	return pages * int64(os.Getpagesize()), nil
}
