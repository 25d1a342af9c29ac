package faultshim

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// The layout of the shared file; preload/shim.c has the same.
const (
	maxRules   = 32
	pathSize   = 256
	kindSize   = 32
	usedAt     = 16
	rulesAt    = 24
	countsAt   = 64
	ruleAt     = 512
	logAt      = 16384
	logSize    = 16 << 20
	flagOnward = 1
	flagKill   = 2
	flagShort  = 4
	flagDone   = 8
)

// Control is the file by which a test and its processes know of each other. Keep
// it off a file system that the test fills.
type Control struct {
	file       *os.File
	generation uint64
}

// New makes a control file in a folder, with no rules.
func New(dir string) (*Control, error) {
	f, err := os.CreateTemp(dir, "faults-*")
	if err != nil {
		return nil, err
	}
	if err := f.Truncate(logAt + logSize); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &Control{file: f}, nil
}

// Close closes the file. Processes that run go on with the last rules.
func (c *Control) Close() error { return c.file.Close() }

// Env is what a process needs in its environment to be under this control:
//
//	cmd.Env = append(os.Environ(), control.Env(library)...)
func (c *Control) Env(library string) []string {
	path, err := filepath.Abs(c.file.Name())
	if err != nil {
		path = c.file.Name()
	}
	return []string{"LD_PRELOAD=" + library, "EIDER_FAULTS=" + path}
}

// Arm replaces the rules, empties the list of calls and starts all counts anew,
// in the processes that run as in those to come. Of several rules that are due
// the first holds. Of a call that runs meanwhile nothing is promised.
func (c *Control) Arm(rules ...Rule) error {
	text, err := encode(rules)
	if err != nil {
		return err
	}
	used, err := c.used()
	if err != nil {
		return err
	}
	// An odd generation means hands off. What is left of the old list is wiped: a
	// process that is killed in a note leaves a gap, and old calls would show in it.
	for _, part := range []struct {
		at   int64
		text []byte
	}{
		{0, binary.NativeEndian.AppendUint64(nil, c.generation+1)},
		{logAt, make([]byte, min(used, logSize))},
		{8, text},
		{0, binary.NativeEndian.AppendUint64(nil, c.generation+2)},
	} {
		if _, err := c.file.WriteAt(part.text, part.at); err != nil {
			return fmt.Errorf("write the rules: %w", err)
		}
	}
	c.generation += 2
	return nil
}

func (c *Control) used() (uint64, error) {
	head := make([]byte, 8)
	if _, err := c.file.ReadAt(head, usedAt); err != nil {
		return 0, fmt.Errorf("read the calls: %w", err)
	}
	return binary.NativeEndian.Uint64(head), nil
}

// encode returns the file from behind the generation up to the log.
func encode(rules []Rule) ([]byte, error) {
	if len(rules) > maxRules {
		return nil, fmt.Errorf("%d rules, at most %d", len(rules), maxRules)
	}
	text := make([]byte, logAt)
	binary.NativeEndian.PutUint64(text[rulesAt:], uint64(len(rules)))
	at := text[ruleAt:ruleAt]
	for _, r := range rules {
		if len(r.Path) >= pathSize || len(r.Call) >= kindSize || r.Nth < 0 || r.Short < 0 || r.Delay < 0 {
			return nil, fmt.Errorf("rule %+v: too long a path, or a number below 0", r)
		}
		at = append(at, r.Path...)
		at = append(at, make([]byte, pathSize-len(r.Path))...)
		at = append(at, r.Call...)
		at = append(at, make([]byte, kindSize-len(r.Call))...)
		for _, n := range []uint64{uint64(r.Nth), uint64(r.Short), uint64(r.Delay / time.Microsecond)} {
			at = binary.NativeEndian.AppendUint64(at, n)
		}
		at = binary.NativeEndian.AppendUint32(at, uint32(r.Errno))
		at = binary.NativeEndian.AppendUint32(at, r.flags())
	}
	return text[8:], nil
}

func (r Rule) flags() uint32 {
	var flags uint32
	for flag, set := range map[uint32]bool{flagOnward: r.Onward, flagKill: r.Kill, flagShort: r.Short > 0, flagDone: r.Done} {
		if set {
			flags |= flag
		}
	}
	return flags
}

// Call is a call that was made.
type Call struct {
	PID    int
	N      int // counted from Arm on, over all processes
	Kind   Kind
	Path   string
	To     string // of a rename
	Size   int    // bytes asked for: of a write or fallocate
	Result int    // what was returned; -1: Errno
	Errno  syscall.Errno
	Rule   int  // which rule it met, from 0; -1: none
	Killed bool // the process, by that rule; Result is that of Short or Done
}

// String is the call without what differs from run to run.
func (c Call) String() string {
	text := string(c.Kind) + " " + filepath.Base(c.Path)
	if c.To != "" {
		text += " -> " + filepath.Base(c.To)
	}
	switch {
	case c.Killed:
		text += ": killed"
	case c.Result < 0:
		text += ": " + c.Errno.Error()
	}
	return text
}

// Calls returns the calls since Arm in the order in which they began. One that
// still runs, or whose process was killed in it from outside, is not there.
func (c *Control) Calls() ([]Call, error) {
	used, err := c.used()
	if err != nil {
		return nil, err
	}
	if used > logSize {
		return nil, fmt.Errorf("%d bytes of calls, room for %d: arm more often", used, logSize)
	}
	text := make([]byte, used)
	if _, err := c.file.ReadAt(text, logAt); err != nil {
		return nil, fmt.Errorf("read the calls: %w", err)
	}
	var calls []Call
	for line := range bytes.Lines(text) {
		// A line that was reserved and not yet, or never, written is zeros.
		if call, ok := parse(strings.Trim(string(line), "\x00\n")); ok {
			calls = append(calls, call)
		}
	}
	slices.SortFunc(calls, func(a, b Call) int { return a.N - b.N })
	return calls, nil
}

// parse reads "pid n kind size result errno rule end path[\tto]".
func parse(line string) (Call, bool) {
	words := strings.SplitN(line, " ", 9)
	if len(words) != 9 {
		return Call{}, false
	}
	var numbers [7]int
	for i := range numbers {
		if i == 2 {
			continue
		}
		n, err := strconv.Atoi(words[i])
		if err != nil {
			return Call{}, false
		}
		numbers[i] = n
	}
	path, to, _ := strings.Cut(words[8], "\t")
	return Call{
		PID: numbers[0], N: numbers[1], Kind: Kind(words[2]), Path: path, To: to, Size: numbers[3], Result: numbers[4],
		Errno: syscall.Errno(numbers[5]), Rule: numbers[6], Killed: words[7] == "!",
	}, true
}

// Of returns the calls that a Rule with this Call and Path would count.
func Of(calls []Call, kind Kind, path string) []Call {
	var found []Call
	for _, c := range calls {
		if (kind == "" || kind == c.Kind) && (matchesPath(path, c.Path) || c.To != "" && matchesPath(path, c.To)) {
			found = append(found, c)
		}
	}
	return found
}
