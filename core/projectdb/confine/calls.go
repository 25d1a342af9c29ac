package confine

import (
	"slices"

	"golang.org/x/sys/unix"
)

// newestCall is the last that the lists below were made for. Later ones do not
// exist for a worker.
const newestCall = unix.SYS_RSEQ_SLICE_YIELD

// inspection is a rule for calls of which a worker needs a part.
type inspection struct {
	calls []uint32
	then  program
}

// inspected are the calls whose arguments decide.
func inspected(pid uint32) []inspection {
	const idBits = unix.S_ISUID | unix.S_ISGID
	return append(inspectedHere(idBits), []inspection{
		// To itself only: Go preempts goroutines by tgkill, and ends by kill.
		{[]uint32{unix.SYS_KILL, unix.SYS_TGKILL, unix.SYS_RT_SIGQUEUEINFO, unix.SYS_RT_TGSIGQUEUEINFO}, only(0, pid)},
		{[]uint32{unix.SYS_CLONE}, threadsOnly()},
		{[]uint32{unix.SYS_PRLIMIT64}, readLimits(pid)},
		// No code is made or loaded: DuckDB has no compiler, and extensions are off.
		{[]uint32{unix.SYS_MMAP, unix.SYS_MPROTECT, unix.SYS_PKEY_MPROTECT}, without(2, unix.PROT_EXEC)},
		// chmod is refused, so a file must not be born with what it would give.
		{[]uint32{unix.SYS_OPENAT}, without(3, idBits)},
		// Names of threads and of memory. Not: dumpable, the parent's death signal,
		// seccomp, what lies where in memory.
		{[]uint32{unix.SYS_PRCTL}, only(0, unix.PR_SET_NAME, unix.PR_GET_NAME, unix.PR_SET_VMA, unix.PR_GET_DUMPABLE,
			unix.PR_GET_NO_NEW_PRIVS, unix.PR_GET_SECCOMP, unix.PR_GET_PDEATHSIG, unix.PR_SET_THP_DISABLE)},
		// Is it a terminal, how much is there to read. Not: typing into
		// the terminal (TIOCSTI), making a file immutable.
		{[]uint32{unix.SYS_IOCTL}, only(1, unix.TCGETS, unix.TIOCGWINSZ, unix.TIOCINQ)},
		// Signals to others on I/O, and leases that stall whoever opens the file.
		{[]uint32{unix.SYS_FCNTL}, never(1, unix.F_SETOWN, unix.F_SETOWN_EX, unix.F_SETSIG, unix.F_SETLEASE, unix.F_NOTIFY)},
	}...)
}

// hidden are calls that keep their arguments in memory, where a filter cannot
// see them. ENOSYS makes libraries use the older calls, which are inspected.
func hidden() []uint32 { return []uint32{unix.SYS_CLONE3, unix.SYS_OPENAT2} }

// refused are the calls that a worker has no use for.
func refused() []uint32 {
	return slices.Concat(refusedHere(), network, processes, attributes, privileges, machine, sharing)
}

// Its socket was made for it, and needs none of these.
var network = []uint32{
	unix.SYS_SOCKET, unix.SYS_SOCKETPAIR, unix.SYS_CONNECT, unix.SYS_BIND, unix.SYS_LISTEN, unix.SYS_ACCEPT, unix.SYS_ACCEPT4,
}

// Other processes, and what the worker itself runs as. tkill names a thread, of
// whatever process. sched_* and the like would take the processor from others.
var processes = []uint32{
	unix.SYS_EXECVE, unix.SYS_EXECVEAT, unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV,
	unix.SYS_PROCESS_MADVISE, unix.SYS_PROCESS_MRELEASE, unix.SYS_PIDFD_OPEN, unix.SYS_PIDFD_GETFD, unix.SYS_PIDFD_SEND_SIGNAL,
	unix.SYS_KCMP, unix.SYS_TKILL, unix.SYS_SETPGID, unix.SYS_SETSID, unix.SYS_SETRLIMIT,
	unix.SYS_SETPRIORITY, unix.SYS_IOPRIO_SET, unix.SYS_SCHED_SETAFFINITY, unix.SYS_SCHED_SETATTR, unix.SYS_SCHED_SETPARAM,
	unix.SYS_SCHED_SETSCHEDULER, unix.SYS_MBIND, unix.SYS_SET_MEMPOLICY, unix.SYS_SET_MEMPOLICY_HOME_NODE, unix.SYS_MIGRATE_PAGES,
	unix.SYS_MOVE_PAGES, unix.SYS_MLOCK, unix.SYS_MLOCK2, unix.SYS_MLOCKALL,
}

// Modes, owners, times and attributes, which Landlock does not guard anywhere on
// the machine; links and special files, which the server must not meet; ways to
// a file that go past its path; watching what others do to files.
var attributes = []uint32{
	unix.SYS_FCHMOD, unix.SYS_FCHMODAT, unix.SYS_FCHMODAT2, unix.SYS_FCHOWN, unix.SYS_FCHOWNAT, unix.SYS_UTIMENSAT,
	unix.SYS_SETXATTR, unix.SYS_LSETXATTR, unix.SYS_FSETXATTR, unix.SYS_SETXATTRAT, unix.SYS_REMOVEXATTR, unix.SYS_LREMOVEXATTR,
	unix.SYS_FREMOVEXATTR, unix.SYS_REMOVEXATTRAT, unix.SYS_FILE_SETATTR, unix.SYS_LINKAT, unix.SYS_SYMLINKAT, unix.SYS_MKNODAT,
	unix.SYS_NAME_TO_HANDLE_AT, unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_CHDIR, unix.SYS_FCHDIR,
	unix.SYS_INOTIFY_INIT1, unix.SYS_INOTIFY_ADD_WATCH, unix.SYS_FANOTIFY_INIT, unix.SYS_FANOTIFY_MARK,
}

// Users, namespaces and mounts.
var privileges = []uint32{
	unix.SYS_SETUID, unix.SYS_SETGID, unix.SYS_SETREUID, unix.SYS_SETREGID, unix.SYS_SETRESUID, unix.SYS_SETRESGID,
	unix.SYS_SETFSUID, unix.SYS_SETFSGID, unix.SYS_SETGROUPS, unix.SYS_CAPSET, unix.SYS_PERSONALITY, unix.SYS_SECCOMP,
	unix.SYS_LSM_SET_SELF_ATTR, unix.SYS_UNSHARE, unix.SYS_SETNS, unix.SYS_CHROOT, unix.SYS_PIVOT_ROOT,
	unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_MOVE_MOUNT, unix.SYS_MOUNT_SETATTR, unix.SYS_OPEN_TREE, unix.SYS_OPEN_TREE_ATTR,
	unix.SYS_FSOPEN, unix.SYS_FSCONFIG, unix.SYS_FSMOUNT, unix.SYS_FSPICK, unix.SYS_STATMOUNT, unix.SYS_LISTMOUNT, unix.SYS_LISTNS,
}

// The kernel and the machine, and the parts of the kernel that were most often
// broken out of. sync writes out what everybody has, and stalls them.
var machine = []uint32{
	unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD, unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER,
	unix.SYS_IO_URING_REGISTER, unix.SYS_KEYCTL, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY,
	unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE, unix.SYS_KEXEC_LOAD, unix.SYS_KEXEC_FILE_LOAD,
	unix.SYS_REBOOT, unix.SYS_SWAPON, unix.SYS_SWAPOFF, unix.SYS_ACCT, unix.SYS_QUOTACTL, unix.SYS_QUOTACTL_FD,
	unix.SYS_SYSLOG, unix.SYS_SETHOSTNAME, unix.SYS_SETDOMAINNAME, unix.SYS_SETTIMEOFDAY, unix.SYS_CLOCK_SETTIME,
	unix.SYS_CLOCK_ADJTIME, unix.SYS_ADJTIMEX, unix.SYS_VHANGUP, unix.SYS_LOOKUP_DCOOKIE, unix.SYS_NFSSERVCTL,
	unix.SYS_SYNC, unix.SYS_SYNCFS, unix.SYS_REMAP_FILE_PAGES, unix.SYS_IO_SETUP, unix.SYS_IO_SUBMIT,
}

// Memory and queues that other processes of the user could share, or that no
// limit of address space counts.
var sharing = []uint32{
	unix.SYS_SHMGET, unix.SYS_SHMAT, unix.SYS_SHMCTL, unix.SYS_SHMDT, unix.SYS_SEMGET, unix.SYS_SEMOP, unix.SYS_SEMCTL,
	unix.SYS_SEMTIMEDOP, unix.SYS_MSGGET, unix.SYS_MSGSND, unix.SYS_MSGRCV, unix.SYS_MSGCTL, unix.SYS_MQ_OPEN, unix.SYS_MQ_UNLINK,
	unix.SYS_MQ_TIMEDSEND, unix.SYS_MQ_TIMEDRECEIVE, unix.SYS_MQ_NOTIFY, unix.SYS_MQ_GETSETATTR,
	unix.SYS_MEMFD_CREATE, unix.SYS_MEMFD_SECRET, unix.SYS_VMSPLICE,
}
