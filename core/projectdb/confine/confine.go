package confine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Limits is what a worker may have.
type Limits struct {
	// Root is the project's folder, which must hold the folders db, in and out.
	Root string
	// Memory is how many bytes of address space the process may take beyond what
	// it has now; 0: no limit. Threads reserve some of it, see the package.
	Memory int64
	// FileSize is how many bytes a file may hold that is written; 0: no limit.
	FileSize int64
	// Files is how many descriptors may be open at once; 0: no change.
	Files int64
}

// Layer is one thing that keeps a worker in.
type Layer struct {
	Holds bool   `json:"holds"`
	Why   string `json:"why,omitempty"` // it does not hold, or what of it is lacking
}

// State says what keeps the process in.
type State struct {
	LandlockABI int   `json:"landlock_abi"` // of the kernel; 0: it has none
	Landlock    Layer `json:"landlock"`     // files outside the folders are out of reach
	TCP         Layer `json:"tcp"`          // Landlock denies TCP too
	Scopes      Layer `json:"scopes"`       // Landlock keeps signals and abstract sockets in too
	Seccomp     Layer `json:"seccomp"`      // system calls are filtered
	NoNewPrivs  Layer `json:"no_new_privs"`
	Memory      Layer `json:"memory"`     // address space is bounded
	FileSize    Layer `json:"file_size"`  // so are files
	Files       Layer `json:"files"`      // and descriptors
	CoreDumps   Layer `json:"core_dumps"` // none are written
	Undumpable  Layer `json:"undumpable"` // other processes of the user cannot look in
	OOMScore    Layer `json:"oom_score"`  // the kernel prefers to kill this process
}

// Named is a layer with the name that logs, health and metrics give it.
type Named struct {
	Name string
	Layer
}

// Layers returns the layers in the order of the fields.
func (s State) Layers() []Named {
	return []Named{
		{"landlock", s.Landlock}, {"tcp", s.TCP}, {"scopes", s.Scopes}, {"seccomp", s.Seccomp},
		{"no_new_privs", s.NoNewPrivs}, {"memory", s.Memory}, {"file_size", s.FileSize}, {"files", s.Files},
		{"core_dumps", s.CoreDumps}, {"undumpable", s.Undumpable}, {"oom_score", s.OOMScore},
	}
}

// Confined reports whether the layers hold without which a tenant's SQL is not
// to be run where confinement is required. TCP and scopes are not among them:
// older kernels lack them, and the filter of system calls refuses the same. Nor
// is the score, which protects others only from a lack of memory.
func (s State) Confined() bool {
	for _, l := range s.Layers() {
		switch l.Name {
		case "tcp", "scopes", "oom_score":
		default:
			if !l.Holds {
				return false
			}
		}
	}
	return true
}

// String names what holds, and what does not with its reason.
func (s State) String() string {
	var holds, lacks []string
	for _, l := range s.Layers() {
		text := l.Name
		if l.Why != "" {
			text += " (" + l.Why + ")"
		}
		if l.Holds {
			holds = append(holds, text)
		} else {
			lacks = append(lacks, text)
		}
	}
	text := fmt.Sprintf("Landlock ABI %d; holds: %s", s.LandlockABI, strings.Join(holds, ", "))
	if lacks != nil {
		text += "; does not hold: " + strings.Join(lacks, ", ")
	}
	return text
}

// Apply confines the process, once and for ever. What the kernel refuses is in
// the state. After an error the process must not open a database: the limits
// make no sense, or what was applied is not known.
func Apply(l Limits) (State, error) {
	var s State
	if err := l.check(); err != nil {
		return s, fmt.Errorf("confine: %w", err)
	}
	// no_new_privs belongs to a thread. The filter carries it to the others.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	s.OOMScore = layer(raiseOOMScore())
	if err := l.setLimits(&s); err != nil {
		return s, fmt.Errorf("confine: %w", err)
	}
	s.NoNewPrivs = layer(noNewPrivs())
	if err := restrictFiles(l.Root, &s); err != nil {
		return s, fmt.Errorf("confine: %w", err)
	}
	s.Undumpable = layer(prctl("PR_SET_DUMPABLE", unix.PR_SET_DUMPABLE, 0))
	s.Seccomp = layer(filterCalls())
	try(l.Root, &s)
	return s, nil
}

// folders are those of a project that its worker may see, and whether it may
// write there.
func folders() map[string]bool { return map[string]bool{"db": true, "in": false, "out": true} }

func (l Limits) check() error {
	if !filepath.IsAbs(l.Root) {
		return fmt.Errorf("the project's folder %q is not absolute", l.Root)
	}
	for name := range folders() {
		// A rule follows a symbolic link, and would open what is behind it.
		info, err := os.Lstat(filepath.Join(l.Root, name))
		if err != nil {
			return err
		}
		if !info.IsDir() {
			return fmt.Errorf("%s is not a folder", filepath.Join(l.Root, name))
		}
	}
	if l.Memory < 0 || l.FileSize < 0 || l.Files < 0 {
		return errors.New("a limit is negative")
	}
	return nil
}

// layer is the state of a step that has run.
func layer(err error) Layer {
	if err != nil {
		return Layer{Why: err.Error()}
	}
	return Layer{Holds: true}
}

func noNewPrivs() error { return prctl("PR_SET_NO_NEW_PRIVS", unix.PR_SET_NO_NEW_PRIVS, 1) }

func prctl(name string, option int, value uintptr) error {
	if err := unix.Prctl(option, value, 0, 0, 0); err != nil {
		return fmt.Errorf("prctl %s: %w", name, err)
	}
	return nil
}

// try does two forbidden things, so that the state tells what is, not what was
// asked for.
func try(root string, s *State) {
	if s.Landlock.Holds {
		if fd, err := unix.Open(root, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err == nil {
			_ = unix.Close(fd)
			s.Landlock = Layer{Why: "the rules were accepted, and a folder outside them still opens"}
		}
	}
	if s.Seccomp.Holds {
		if fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err == nil {
			_ = unix.Close(fd)
			s.Seccomp = Layer{Why: "the filter was accepted, and a socket can still be made"}
		}
	}
}
