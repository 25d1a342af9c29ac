package confine

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// Refuse makes a system call fail with the error from now on, in every thread:
// what a container does that forbids it, or a kernel that lacks it.
func Refuse(number uint32, with unix.Errno) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := noNewPrivs(); err != nil {
		return err
	}
	var p program
	p.load(offsetCall)
	p.when(number, unix.SECCOMP_RET_ERRNO|uint32(with))
	p.answer(allow)
	return p.install()
}
