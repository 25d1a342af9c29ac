package confine

import (
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Where the kernel puts what a filter may look at (struct seccomp_data). Both
// architectures store the low half of an argument first.
const (
	offsetCall = 0
	offsetArch = 4
	offsetArgs = 16
)

// What a filter may answer.
const (
	allow   = unix.SECCOMP_RET_ALLOW
	kill    = unix.SECCOMP_RET_KILL_PROCESS
	refuse  = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	unknown = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
)

// filterCalls puts the filter upon every thread of the process. The calling
// thread must have no_new_privs, and hands it to the others with the filter.
func filterCalls() error { return filter(uint32(os.Getpid())).install() }

func (p program) install() error {
	prog := unix.SockFprog{Len: uint16(len(p)), Filter: &p[0]}
	thread, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(p)
	if errno != 0 {
		return fmt.Errorf("seccomp: %w", errno)
	}
	if thread != 0 {
		return fmt.Errorf("seccomp: thread %d has a filter of its own", thread)
	}
	return nil
}

// program is a filter in the making. The number of the call is in the
// accumulator between two of its rules; a rule that looks at an argument ends in
// an answer, so that it need not be loaded again. Jumps go forward, by less than
// 256 instructions.
type program []unix.SockFilter

// filter returns the filter of a process:
//
//	another architecture: kill; another table of this one (x32), or newer: ENOSYS
//	calls of which a worker needs a part: look at the arguments
//	calls that it does not need: EPERM
//	all others: go ahead
func filter(pid uint32) program {
	var p program
	p.load(offsetArch)
	p.add(unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K, auditArch, 1, 0)
	p.answer(kill)
	p.load(offsetCall)
	p.add(unix.BPF_JMP|unix.BPF_JGT|unix.BPF_K, newestCall, 0, 1)
	p.answer(unknown)
	for _, r := range inspected(pid) {
		for _, call := range r.calls {
			p.add(unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K, call, 0, uint8(len(r.then)))
			p = append(p, r.then...)
		}
	}
	for _, call := range hidden() {
		p.when(call, unknown)
	}
	for _, call := range refused() {
		p.when(call, refuse)
	}
	p.answer(allow)
	return p
}

func (p *program) add(code uint16, k uint32, yes, no uint8) {
	*p = append(*p, unix.SockFilter{Code: code, K: k, Jt: yes, Jf: no})
}

func (p *program) load(offset uint32) { p.add(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, offset, 0, 0) }

func (p *program) answer(a uint32) { p.add(unix.BPF_RET|unix.BPF_K, a, 0, 0) }

// when answers where the accumulator is the value.
func (p *program) when(value, answer uint32) {
	p.add(unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K, value, 0, 1)
	p.answer(answer)
}

// whenBits answers where the accumulator has any of the bits.
func (p *program) whenBits(bits, answer uint32) {
	p.add(unix.BPF_JMP|unix.BPF_JSET|unix.BPF_K, bits, 0, 1)
	p.answer(answer)
}

// argument loads the low half of an argument: all that the kernel takes of an
// int or of the flags of clone.
func argument(n uint32) program {
	var p program
	p.load(offsetArgs + 8*n)
	return p
}

// only refuses the call unless the argument is one of the values.
func only(n uint32, values ...uint32) program {
	p := argument(n)
	for _, v := range values {
		p.when(v, allow)
	}
	p.answer(refuse)
	return p
}

// never refuses the call where the argument is one of the values.
func never(n uint32, values ...uint32) program {
	p := argument(n)
	for _, v := range values {
		p.when(v, refuse)
	}
	p.answer(allow)
	return p
}

// without refuses the call where the argument has any of the bits.
func without(n, bits uint32) program {
	p := argument(n)
	p.whenBits(bits, refuse)
	p.answer(allow)
	return p
}

// threadsOnly lets clone make threads, in the namespaces of the process.
func threadsOnly() program {
	const namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC |
		unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET
	p := argument(0)
	p.whenBits(namespaces, refuse)
	p.whenBits(unix.CLONE_THREAD, allow)
	p.answer(refuse)
	return p
}

// readLimits lets prlimit64 read the limits of the process itself: the pointer
// to new ones must be nil, both halves of it.
func readLimits(pid uint32) program {
	p := argument(0)
	p.add(unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K, 0, 2, 0)
	p.add(unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K, pid, 1, 0)
	p.answer(refuse)
	for half := range uint32(2) {
		p.load(offsetArgs + 8*2 + 4*half)
		p.add(unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K, 0, 1, 0)
		p.answer(refuse)
	}
	p.answer(allow)
	return p
}
