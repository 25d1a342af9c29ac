package confine_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// attempt is something that a confined process must not be able to do.
type attempt struct {
	layer string // which keeps it from that: "landlock", "seccomp", or "either"
	do    func(scene) error
}

// attempts are things that an unconfined process of the same user can do: a test
// shows that too, so that none of them fails for another reason.
func attempts() map[string]attempt {
	return map[string]attempt{
		"read /etc/passwd":            {"landlock", read("/etc/passwd")},
		"list the root":               {"landlock", list("/")},
		"list the temporary folder":   {"landlock", list(os.TempDir())},
		"list the project's folder":   {"landlock", func(s scene) error { return list(s.Root)(s) }},
		"read project.json":           {"landlock", func(s scene) error { return read(filepath.Join(s.Root, "project.json"))(s) }},
		"read it by way of db":        {"landlock", func(s scene) error { return read(s.Root + "/db/../project.json")(s) }},
		"open the lock":               {"landlock", func(s scene) error { return read(filepath.Join(s.Root, "lock"))(s) }},
		"read another project":        {"landlock", func(s scene) error { return read(filepath.Join(s.Other, "db", "file"))(s) }},
		"write another project":       {"landlock", func(s scene) error { return put(filepath.Join(s.Other, "db", "file")) }},
		"follow a link":               {"landlock", func(s scene) error { return read(filepath.Join(s.Root, "db", "link"))(s) }},
		"write beside db":             {"landlock", func(s scene) error { return put(filepath.Join(s.Root, "new")) }},
		"write outside":               {"landlock", func(s scene) error { return put(filepath.Join(s.Outside, "new")) }},
		"append to in":                {"landlock", func(s scene) error { return appendTo(filepath.Join(s.Root, "in", "file")) }},
		"create in in":                {"landlock", func(s scene) error { return put(filepath.Join(s.Root, "in", "new")) }},
		"truncate in in":              {"landlock", func(s scene) error { return os.Truncate(filepath.Join(s.Root, "in", "file"), 3) }},
		"make a folder in in":         {"landlock", func(s scene) error { return os.Mkdir(filepath.Join(s.Root, "in", "folder"), 0o755) }},
		"move out of in":              {"landlock", func(s scene) error { return move(s.Root, "in/file", "db/moved") }},
		"move into in":                {"landlock", func(s scene) error { return move(s.Root, "out/file", "in/moved") }},
		"move from db to out":         {"landlock", func(s scene) error { return move(s.Root, "db/file", "out/moved") }},
		"replace db":                  {"landlock", func(s scene) error { return os.Rename(filepath.Join(s.Root, "db"), filepath.Join(s.Root, "old")) }},
		"remove from in":              {"landlock", func(s scene) error { return os.Remove(filepath.Join(s.Root, "in", "file")) }},
		"remove another's file":       {"landlock", func(s scene) error { return os.Remove(filepath.Join(s.Other, "out", "file")) }},
		"read another's environment":  {"landlock", func(s scene) error { return read(proc(s.Victim, "environ"))(s) }},
		"read another's memory map":   {"landlock", func(s scene) error { return read(proc(s.Victim, "maps"))(s) }},
		"read another's command line": {"landlock", func(s scene) error { return read(proc(s.Victim, "cmdline"))(s) }},
		"go through another's root":   {"landlock", func(s scene) error { return read(proc(s.Victim, "root/etc/passwd"))(s) }},
		"list processes":              {"landlock", list("/proc")},
		"read its own environment":    {"landlock", read("/proc/self/environ")},
		"read its memory map":         {"landlock", read("/proc/self/maps")},
		"read its mounts":             {"landlock", read("/proc/self/mountinfo")},
		"list connections":            {"landlock", read("/proc/self/net/tcp")},
		"change its OOM score":        {"landlock", func(scene) error { return os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0) }},
		"write to a device":           {"landlock", func(scene) error { return appendTo("/dev/null") }},
		"change the mode outside":     {"seccomp", func(s scene) error { return os.Chmod(filepath.Join(s.Outside, "secret"), 0o600) }},
		"change the mode of its own":  {"seccomp", func(s scene) error { return os.Chmod(filepath.Join(s.Root, "db", "file"), 0o777) }},
		"change the owner":            {"seccomp", func(s scene) error { return os.Chown(filepath.Join(s.Root, "db", "file"), os.Getuid(), os.Getgid()) }},
		"change times outside": {"seccomp", func(s scene) error {
			return unix.Utimes(filepath.Join(s.Outside, "secret"), make([]unix.Timeval, 2))
		}},
		"create a setuid file": {"seccomp", func(s scene) error {
			return openClose(filepath.Join(s.Root, "out", "setuid"), unix.O_CREAT|unix.O_WRONLY, 0o4755)
		}},
		"link": {"seccomp", func(s scene) error {
			return os.Link(filepath.Join(s.Root, "db", "file"), filepath.Join(s.Root, "db", "hard"))
		}},
		"link from in": {"either", func(s scene) error {
			return os.Link(filepath.Join(s.Root, "in", "file"), filepath.Join(s.Root, "db", "in"))
		}},
		"link by name": {"either", func(s scene) error { return os.Symlink("/etc/passwd", filepath.Join(s.Root, "out", "passwd")) }},
		"make a pipe":  {"either", func(s scene) error { return unix.Mkfifo(filepath.Join(s.Root, "out", "pipe"), 0o644) }},
		"run a program": {"either", func(s scene) error {
			return exec.Command(filepath.Join(s.Root, "db", "program")).Run()
		}},
		"fork":                   {"seccomp", func(scene) error { return fork() }},
		"connect":                {"seccomp", func(s scene) error { return dial("tcp", s.TCP) }},
		"connect to a socket":    {"seccomp", func(s scene) error { return dial("unix", s.Socket) }},
		"send a datagram":        {"seccomp", func(s scene) error { return dial("udp", s.TCP) }},
		"listen":                 {"seccomp", func(scene) error { return closed(net.Listen("tcp4", "127.0.0.1:0")) }},
		"make a pair of sockets": {"seccomp", func(scene) error { return pair() }},
		"signal another":         {"seccomp", func(s scene) error { return unix.Kill(s.Victim, unix.SIGWINCH) }},
		"kill another":           {"seccomp", func(s scene) error { return kill(s.Victim) }},
		"watch another": {"seccomp", func(s scene) error {
			fd, err := unix.PidfdOpen(s.Victim, 0)
			return errors.Join(err, closeFD(fd, err))
		}},
		"raise a limit": {"seccomp", func(scene) error { return setCore() }},
		"make code": {"seccomp", func(scene) error {
			b, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_ANON|unix.MAP_PRIVATE)
			if err != nil {
				return err
			}
			return unix.Munmap(b)
		}},
		"be dumpable":              {"seccomp", func(scene) error { return unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0) }},
		"outlive the parent":       {"seccomp", func(scene) error { return unix.Prctl(unix.PR_SET_PDEATHSIG, 0, 0, 0, 0) }},
		"get a signal on I/O":      {"seccomp", func(s scene) error { return owner(s) }},
		"memory without addresses": {"seccomp", func(scene) error { return memfd() }},
		"share memory":             {"seccomp", func(scene) error { return sharedMemory() }},
	}
}

func read(path string) func(scene) error {
	return func(scene) error {
		_, err := os.ReadFile(path)
		return err
	}
}

func list(path string) func(scene) error {
	return func(scene) error {
		_, err := os.ReadDir(path)
		return err
	}
}

func put(path string) error { return os.WriteFile(path, []byte("mine"), 0o644) }

func appendTo(path string) error { return openClose(path, unix.O_WRONLY|unix.O_APPEND, 0) }

func openClose(path string, flags int, mode uint32) error {
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, mode)
	return errors.Join(err, closeFD(fd, err))
}

func closeFD(fd int, err error) error {
	if err != nil {
		return nil
	}
	return unix.Close(fd)
}

func move(root, from, to string) error {
	return os.Rename(filepath.Join(root, from), filepath.Join(root, to))
}

func proc(pid int, file string) string { return filepath.Join("/proc", strconv.Itoa(pid), file) }

func dial(network, address string) error {
	c, err := net.Dial(network, address)
	if err != nil {
		return err
	}
	return c.Close()
}

func closed(l net.Listener, err error) error {
	if err != nil {
		return err
	}
	return l.Close()
}

func pair() error {
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	return errors.Join(unix.Close(ends[0]), unix.Close(ends[1]))
}

func kill(pid int) error { return unix.Kill(pid, unix.SIGKILL) }

func setCore() error {
	var now unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NPROC, &now); err != nil {
		return nil // which is not what is tried
	}
	return unix.Setrlimit(unix.RLIMIT_NPROC, &now)
}

// fork makes a process that ends at once.
func fork() error {
	pid, _, errno := syscall.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if errno != 0 {
		return errno
	}
	if pid == 0 {
		_, _, _ = syscall.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
	_, err := unix.Wait4(int(pid), nil, 0, nil)
	return err
}

func owner(s scene) error {
	f, err := os.Open(filepath.Join(s.Root, "db", "file"))
	if err != nil {
		return nil
	}
	defer f.Close()
	_, err = unix.FcntlInt(f.Fd(), unix.F_SETOWN, os.Getpid())
	return err
}

func memfd() error {
	fd, err := unix.MemfdCreate("x", unix.MFD_CLOEXEC)
	return errors.Join(err, closeFD(fd, err))
}

func sharedMemory() error {
	id, err := unix.SysvShmGet(unix.IPC_PRIVATE, 4096, 0o600)
	if err != nil {
		return err
	}
	_, err = unix.SysvShmCtl(id, unix.IPC_RMID, nil)
	return err
}

// rawCalls are made with arguments that do nothing even where they are allowed.
// With the filter they fail otherwise than without it.
func rawCalls() map[string][4]uintptr {
	const none = ^uintptr(0) // no descriptor, no process
	return map[string][4]uintptr{
		"connect": {unix.SYS_CONNECT, none}, "bind": {unix.SYS_BIND, none}, "listen": {unix.SYS_LISTEN, none}, "accept": {unix.SYS_ACCEPT, none},
		"execve": {unix.SYS_EXECVE}, "execveat": {unix.SYS_EXECVEAT, none}, "clone3": {unix.SYS_CLONE3},
		"ptrace": {unix.SYS_PTRACE, unix.PTRACE_ATTACH, 1 << 30}, "process_vm_readv": {unix.SYS_PROCESS_VM_READV, 1 << 30}, "process_vm_writev": {unix.SYS_PROCESS_VM_WRITEV, 1 << 30},
		"pidfd_getfd": {unix.SYS_PIDFD_GETFD, none}, "pidfd_send_signal": {unix.SYS_PIDFD_SEND_SIGNAL, none}, "tkill": {unix.SYS_TKILL, 1 << 30}, "tgkill": {unix.SYS_TGKILL, 1 << 30, 1 << 30},
		"sched_setaffinity": {unix.SYS_SCHED_SETAFFINITY}, "sched_setscheduler": {unix.SYS_SCHED_SETSCHEDULER, none}, "setpriority": {unix.SYS_SETPRIORITY, 99}, "ioprio_set": {unix.SYS_IOPRIO_SET, 99},
		"fchmod": {unix.SYS_FCHMOD, none}, "fchmodat": {unix.SYS_FCHMODAT, none}, "fchown": {unix.SYS_FCHOWN, none}, "fchownat": {unix.SYS_FCHOWNAT, none},
		"setxattr": {unix.SYS_SETXATTR}, "fsetxattr": {unix.SYS_FSETXATTR, none}, "mknodat": {unix.SYS_MKNODAT, none}, "openat2": {unix.SYS_OPENAT2},
		"open_by_handle_at": {unix.SYS_OPEN_BY_HANDLE_AT, none}, "inotify_init1": {unix.SYS_INOTIFY_INIT1, none}, "chdir": {unix.SYS_CHDIR},
		"setuid": {unix.SYS_SETUID, none}, "setgroups": {unix.SYS_SETGROUPS, 1 << 20}, "capset": {unix.SYS_CAPSET}, "personality": {unix.SYS_PERSONALITY, 0xffffffff}, "seccomp": {unix.SYS_SECCOMP, 99},
		"unshare": {unix.SYS_UNSHARE, 0}, "setns": {unix.SYS_SETNS, none}, "chroot": {unix.SYS_CHROOT}, "pivot_root": {unix.SYS_PIVOT_ROOT},
		"mount": {unix.SYS_MOUNT}, "umount": {unix.SYS_UMOUNT2}, "open_tree": {unix.SYS_OPEN_TREE, none}, "fsopen": {unix.SYS_FSOPEN}, "mount_setattr": {unix.SYS_MOUNT_SETATTR, none},
		"bpf": {unix.SYS_BPF, 9999}, "perf_event_open": {unix.SYS_PERF_EVENT_OPEN}, "userfaultfd": {unix.SYS_USERFAULTFD, none}, "keyctl": {unix.SYS_KEYCTL, 9999}, "add_key": {unix.SYS_ADD_KEY},
		"io_uring_setup": {unix.SYS_IO_URING_SETUP}, "io_uring_enter": {unix.SYS_IO_URING_ENTER, none}, "io_uring_register": {unix.SYS_IO_URING_REGISTER, none},
		"finit_module": {unix.SYS_FINIT_MODULE, none}, "kexec_load": {unix.SYS_KEXEC_LOAD, 0, 1 << 20, 0}, "reboot": {unix.SYS_REBOOT}, "swapon": {unix.SYS_SWAPON},
		"sethostname": {unix.SYS_SETHOSTNAME, 0, none}, "settimeofday": {unix.SYS_SETTIMEOFDAY}, "syslog": {unix.SYS_SYSLOG, 99},
		"mq_open": {unix.SYS_MQ_OPEN}, "semget": {unix.SYS_SEMGET, 0, none}, "msgsnd": {unix.SYS_MSGSND, none}, "mlock": {unix.SYS_MLOCK}, "vmsplice": {unix.SYS_VMSPLICE, none},
	}
}

func raw(name string) error {
	c := rawCalls()[name]
	if _, _, errno := unix.Syscall6(c[0], c[1], c[2], c[3], 0, 0, 0); errno != 0 {
		return fmt.Errorf("%s: %w", strings.ToLower(name), errno)
	}
	return nil
}
