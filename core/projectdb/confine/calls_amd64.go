package confine

import "golang.org/x/sys/unix"

const auditArch = unix.AUDIT_ARCH_X86_64

// inspectedHere are those of the older calls, which arm64 never had.
func inspectedHere(idBits uint32) []inspection {
	return []inspection{
		{[]uint32{unix.SYS_OPEN}, without(2, idBits)},
		{[]uint32{unix.SYS_CREAT}, without(1, idBits)},
	}
}

// refusedHere are the older forms of refused calls, and what only this
// architecture has: ports, segments, and calls that are long dead.
func refusedHere() []uint32 {
	return []uint32{
		unix.SYS_FORK, unix.SYS_VFORK, unix.SYS_CHMOD, unix.SYS_CHOWN, unix.SYS_LCHOWN, unix.SYS_UTIME, unix.SYS_UTIMES, unix.SYS_FUTIMESAT,
		unix.SYS_LINK, unix.SYS_SYMLINK, unix.SYS_MKNOD, unix.SYS_INOTIFY_INIT, unix.SYS_IOPL, unix.SYS_IOPERM, unix.SYS_MODIFY_LDT,
		unix.SYS_USELIB, unix.SYS_USTAT, unix.SYS_SYSFS, unix.SYS__SYSCTL,
	}
}
