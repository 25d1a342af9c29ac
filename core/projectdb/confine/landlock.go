package confine

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/landlock-lsm/go-landlock/landlock"
	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
)

// What a rule may allow. Executing and making links, sockets, pipes and devices
// are in none.
const (
	readFile  landlock.AccessFSSet = ll.AccessFSReadFile
	readTree                       = readFile | ll.AccessFSReadDir
	writeTree                      = readTree | ll.AccessFSWriteFile | ll.AccessFSTruncate |
		ll.AccessFSMakeReg | ll.AccessFSMakeDir | ll.AccessFSRemoveFile | ll.AccessFSRemoveDir
)

// The ABI from which the kernel knows a thing.
const (
	abiTruncate = 3
	abiTCP      = 4
	abiScopes   = 6
)

// readOnlyTrees are what the C library, Go and DuckDB look at for the number of
// processors, for the limits of their control group, and for time zones.
func readOnlyTrees() []string {
	return []string{"/sys/fs/cgroup", "/sys/devices/system", "/usr/share/zoneinfo"}
}

// readOnlyFiles are single files of the same kind. Those of the process itself
// do not tell its environment, its mounts, or what lies where in its memory.
func readOnlyFiles() []string {
	return []string{
		"/etc/localtime", "/dev/urandom",
		"/proc/meminfo", "/proc/sys/vm/overcommit_memory",
		"/proc/self/cgroup", "/proc/self/status", "/proc/self/statm",
	}
}

// restrictFiles leaves the process the folders of its project and what it must
// be able to read. An error is one after which the state is not known.
func restrictFiles(root string, s *State) error {
	abi, err := ll.LandlockGetABIVersion()
	if err != nil || abi < 1 {
		s.lackLandlock(whyNone(err))
		return nil
	}
	s.LandlockABI = abi
	pinned, err := pin(readOnlyFiles())
	if err != nil {
		return err
	}
	if err := landlock.V11.BestEffort().Restrict(rules(root, pinned)...); err != nil {
		// Some threads may have it and others not.
		return fmt.Errorf("landlock, ABI %d: %w", abi, err)
	}
	s.haveLandlock(abi)
	return nil
}

func rules(root string, files []string) []landlock.Rule {
	all := []landlock.Rule{
		landlock.PathAccess(readTree, readOnlyTrees()...).IgnoreIfMissing(),
		landlock.PathAccess(readFile, files...),
	}
	for name, written := range folders() {
		access := readTree
		if written {
			access = writeTree
		}
		all = append(all, landlock.PathAccess(access, filepath.Join(root, name)))
	}
	return all
}

// pin returns those of the files that there are, and keeps each open until the
// process ends: the kernel forgets an entry of /proc that nobody uses, and a
// rule for it would be one for nothing.
func pin(paths []string) ([]string, error) {
	var there []string
	for _, path := range paths {
		_, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
		switch {
		case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.EACCES):
		case err != nil:
			return nil, fmt.Errorf("open %s: %w", path, err)
		default:
			there = append(there, path)
		}
	}
	return there, nil
}

// scopesHold reports whether the kernel can scope signals without keeping them
// from the process's own threads, as the first that knew scopes did: before ABI 8
// each thread that runs already gets a domain of its own. The library uses no
// scopes there, because Go's scheduler preempts by signals.
func scopesHold() bool {
	const fixed = 1 << 1 // the second erratum: "scoped signal handling"
	errata, err := ll.LandlockGetErrata()
	return err == nil && errata&fixed != 0
}

func (s *State) lackLandlock(why string) {
	s.Landlock, s.TCP, s.Scopes = Layer{Why: why}, Layer{Why: why}, Layer{Why: why}
}

func (s *State) haveLandlock(abi int) {
	s.Landlock = Layer{Holds: true}
	if abi < abiTruncate {
		s.Landlock.Why = fmt.Sprintf("ABI %d does not refuse truncate", abi)
	}
	s.TCP, s.Scopes = since(abi, abiTCP), since(abi, abiScopes)
	if s.Scopes.Holds && !scopesHold() {
		s.Scopes = Layer{Why: "this kernel would keep signals from the process's own threads"}
	}
}

func since(abi, first int) Layer {
	if abi < first {
		return Layer{Why: fmt.Sprintf("needs Landlock ABI %d, the kernel has %d", first, abi)}
	}
	return Layer{Holds: true}
}

func whyNone(err error) string {
	switch {
	case errors.Is(err, unix.ENOSYS):
		return "the kernel is built without Landlock, or the container hides it"
	case errors.Is(err, unix.EOPNOTSUPP):
		return "Landlock is not switched on in the kernel (lsm=landlock,...)"
	case err != nil:
		return "Landlock: " + err.Error()
	}
	return "the kernel has no Landlock"
}
