package confine

import (
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// call is a system call as a filter sees it.
type call struct {
	arch, number uint32
	args         [6]uint64
}

func (c call) word(offset uint32) uint32 {
	switch {
	case offset == offsetCall:
		return c.number
	case offset == offsetArch:
		return c.arch
	}
	arg := c.args[(offset-offsetArgs)/8]
	return uint32(arg >> (8 * (offset % 8)))
}

// answer runs the program as the kernel would.
func (p program) answerTo(t *testing.T, c call) uint32 {
	t.Helper()
	var a uint32
	for at := 0; at < len(p); at++ {
		i := p[at]
		yes := false
		switch i.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			a = c.word(i.K)
			continue
		case unix.BPF_RET | unix.BPF_K:
			return i.K
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			yes = a == i.K
		case unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K:
			yes = a > i.K
		case unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K:
			yes = a&i.K != 0
		default:
			t.Fatalf("instruction %d has the code %#x", at, i.Code)
		}
		if yes {
			at += int(i.Jt)
		} else {
			at += int(i.Jf)
		}
	}
	t.Fatal("the program ends without an answer")
	return 0
}

const self = 4711

func TestFilterLooksAtArguments(t *testing.T) {
	const threads = unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_SIGHAND | unix.CLONE_THREAD | unix.CLONE_SYSVSEM
	const rubbish = uint64(0xdead) << 32 // the kernel looks at the low half of an int only
	for _, c := range []struct {
		name   string
		number uint32
		args   [6]uint64
		want   uint32
	}{
		{"own thread", unix.SYS_TGKILL, [6]uint64{self, 5, 23}, allow},
		{"own thread, high half set", unix.SYS_TGKILL, [6]uint64{rubbish | self, 5, 23}, allow},
		{"thread of another", unix.SYS_TGKILL, [6]uint64{self + 1, 5, 23}, refuse},
		{"kill itself", unix.SYS_KILL, [6]uint64{self, 6}, allow},
		{"kill the group", unix.SYS_KILL, [6]uint64{0, 9}, refuse},
		{"kill everybody", unix.SYS_KILL, [6]uint64{^uint64(0), 9}, refuse},
		{"queue a signal to the parent", unix.SYS_RT_SIGQUEUEINFO, [6]uint64{1, 9}, refuse},
		{"thread by number alone", unix.SYS_TKILL, [6]uint64{self, 9}, refuse},
		{"thread", unix.SYS_CLONE, [6]uint64{threads}, allow},
		{"thread in a new user namespace", unix.SYS_CLONE, [6]uint64{threads | unix.CLONE_NEWUSER}, refuse},
		{"process", unix.SYS_CLONE, [6]uint64{uint64(unix.SIGCHLD)}, refuse},
		{"process that shares memory", unix.SYS_CLONE, [6]uint64{unix.CLONE_VM | unix.CLONE_VFORK | uint64(unix.SIGCHLD)}, refuse},
		{"thread flag in the high half", unix.SYS_CLONE, [6]uint64{unix.CLONE_THREAD << 32}, refuse},
		{"clone3", unix.SYS_CLONE3, [6]uint64{}, unknown},
		{"openat2", unix.SYS_OPENAT2, [6]uint64{}, unknown},
		{"read own limits", unix.SYS_PRLIMIT64, [6]uint64{0, 7, 0, 0x7000}, allow},
		{"read own limits by number", unix.SYS_PRLIMIT64, [6]uint64{self, 7, 0, 0x7000}, allow},
		{"read those of another", unix.SYS_PRLIMIT64, [6]uint64{1, 7, 0, 0x7000}, refuse},
		{"set own limits", unix.SYS_PRLIMIT64, [6]uint64{0, 7, 0x7000, 0}, refuse},
		{"set own limits from high memory", unix.SYS_PRLIMIT64, [6]uint64{0, 7, 0x7000 << 32, 0}, refuse},
		{"memory", unix.SYS_MMAP, [6]uint64{0, 4096, unix.PROT_READ | unix.PROT_WRITE}, allow},
		{"code", unix.SYS_MMAP, [6]uint64{0, 4096, unix.PROT_READ | unix.PROT_EXEC}, refuse},
		{"memory into code", unix.SYS_MPROTECT, [6]uint64{0, 4096, unix.PROT_EXEC}, refuse},
		{"name a thread", unix.SYS_PRCTL, [6]uint64{unix.PR_SET_NAME}, allow},
		{"be dumpable", unix.SYS_PRCTL, [6]uint64{unix.PR_SET_DUMPABLE, 1}, refuse},
		{"outlive the parent", unix.SYS_PRCTL, [6]uint64{unix.PR_SET_PDEATHSIG, 0}, refuse},
		{"let another trace it", unix.SYS_PRCTL, [6]uint64{unix.PR_SET_PTRACER, 1}, refuse},
		{"terminal?", unix.SYS_IOCTL, [6]uint64{1, unix.TCGETS}, allow},
		{"type into the terminal", unix.SYS_IOCTL, [6]uint64{0, unix.TIOCSTI}, refuse},
		{"make a file immutable", unix.SYS_IOCTL, [6]uint64{3, unix.FS_IOC_SETFLAGS}, refuse},
		{"lock a range", unix.SYS_FCNTL, [6]uint64{3, unix.F_SETLK}, allow},
		{"signal another on I/O", unix.SYS_FCNTL, [6]uint64{3, unix.F_SETOWN, 1}, refuse},
		{"create a file", unix.SYS_OPENAT, [6]uint64{0, 0, unix.O_CREAT, 0o666}, allow},
		{"create a setuid file", unix.SYS_OPENAT, [6]uint64{0, 0, unix.O_CREAT, 0o4755}, refuse},
		{"read", unix.SYS_READ, [6]uint64{}, allow},
		{"wait for a lock", unix.SYS_FUTEX, [6]uint64{}, allow},
		{"flush a file", unix.SYS_FSYNC, [6]uint64{}, allow},
		{"rename", unix.SYS_RENAMEAT, [6]uint64{}, allow},
		{"data on its socket", unix.SYS_SENDMSG, [6]uint64{}, allow},
		{"newer than the list", newestCall + 1, [6]uint64{}, unknown},
		{"of the x32 table", 1<<30 | 59, [6]uint64{}, unknown},
		{"number -1", ^uint32(0), [6]uint64{}, unknown},
	} {
		if got := filter(self).answerTo(t, call{auditArch, c.number, c.args}); got != c.want {
			t.Errorf("%s: %#x, want %#x", c.name, got, c.want)
		}
	}
}

func TestFilterRefusesItsListWhateverTheArguments(t *testing.T) {
	p := filter(self)
	if len(p) > 4096 {
		t.Fatalf("%d instructions are more than the kernel takes", len(p))
	}
	for _, number := range refused() {
		for _, args := range [][6]uint64{{}, {self}, {^uint64(0), ^uint64(0), ^uint64(0)}} {
			if got := p.answerTo(t, call{auditArch, number, args}); got != refuse {
				t.Errorf("call %d with %x: %#x", number, args, got)
			}
		}
	}
}

func TestFilterKillsCallsOfAnotherArchitecture(t *testing.T) {
	for _, arch := range []uint32{unix.AUDIT_ARCH_I386, unix.AUDIT_ARCH_ARM, unix.AUDIT_ARCH_RISCV64, 0} {
		if got := filter(self).answerTo(t, call{arch: arch, number: unix.SYS_READ}); got != kill {
			t.Errorf("architecture %#x: %#x", arch, got)
		}
	}
}

// A call in two lists, or in none because another rule stands before it, would
// be one that somebody believes to be refused.
func TestEveryCallHasOneRule(t *testing.T) {
	all := slices.Concat(refused(), hidden())
	for _, i := range inspected(self) {
		all = append(all, i.calls...)
		if len(i.then) > 255 {
			t.Errorf("the rule for %v is too long to jump over", i.calls)
		}
	}
	slices.Sort(all)
	for i := 1; i < len(all); i++ {
		if all[i] == all[i-1] {
			t.Errorf("call %d has two rules", all[i])
		}
	}
	if all[len(all)-1] > newestCall {
		t.Errorf("call %d is newer than newestCall", all[len(all)-1])
	}
}

func TestStateSaysWhatAnOlderKernelLacks(t *testing.T) {
	for _, c := range []struct {
		abi              int
		landlock         string
		tcpHolds, scopes bool
	}{
		{1, "ABI 1 does not refuse truncate", false, false},
		{2, "ABI 2 does not refuse truncate", false, false},
		{3, "", false, false},
		{4, "", true, false},
		{5, "", true, false},
	} {
		var s State
		s.haveLandlock(c.abi)
		if !s.Landlock.Holds || s.Landlock.Why != c.landlock || s.TCP.Holds != c.tcpHolds || s.Scopes.Holds != c.scopes {
			t.Errorf("ABI %d: %s", c.abi, s)
		}
		if s.Scopes.Why == "" || s.TCP.Holds == (s.TCP.Why != "") {
			t.Errorf("ABI %d: what is lacking has no reason: %s", c.abi, s)
		}
	}
}
