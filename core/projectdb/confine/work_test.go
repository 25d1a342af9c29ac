package confine_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// work is what a confined process must be able to do, with the limits of a MiB
// for a file, 64 open files and 1 GiB of memory.
func work() map[string]func(scene) error {
	return map[string]func(scene) error{
		"write in db":            func(s scene) error { return use(filepath.Join(s.Root, "db")) },
		"write in out":           func(s scene) error { return use(filepath.Join(s.Root, "out")) },
		"read in":                func(s scene) error { return read(filepath.Join(s.Root, "in", "file"))(s) },
		"list in":                func(s scene) error { return list(filepath.Join(s.Root, "in"))(s) },
		"lock a file":            lockFile,
		"read its control group": read("/proc/self/cgroup"),
		"read its size":          read("/proc/self/statm"),
		"read the memory":        read("/proc/meminfo"),
		"list processors":        list("/sys/devices/system/cpu"),
		"list control groups":    list("/sys/fs/cgroup"),
		"start threads":          startThreads,
		"preempt itself":         preempt,
		"signal itself":          func(scene) error { return unix.Kill(os.Getpid(), unix.SIGWINCH) },
		"load a time zone":       loadZone,
		"talk over its socket":   talk,
		"use a pipe":             usePipe,
		"read its limits": func(scene) error {
			var l unix.Rlimit
			return unix.Getrlimit(unix.RLIMIT_AS, &l)
		},
		"a file at its limit is an error": fileLimit,
		"memory beyond its limit too":     memoryLimit,
		"so are descriptors":              descriptors,
		"no core is dumped":               noCore,
		"nobody looks in":                 undumpable,
	}
}

// use does with files what a database does.
func use(dir string) error {
	path := filepath.Join(dir, "t")
	folder := filepath.Join(dir, "folder")
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(secret)
	return errors.Join(err, f.Sync(), f.Truncate(4), os.Truncate(path, 2), unix.Fallocate(int(f.Fd()), 0, 0, 4096),
		os.Rename(path, path+"2"), read(path+"2")(scene{}), list(dir)(scene{}), os.Remove(path+"2"),
		os.Mkdir(folder, 0o755), put(filepath.Join(folder, "x")), os.RemoveAll(folder))
}

func lockFile(s scene) error {
	f, err := os.OpenFile(filepath.Join(s.Root, "db", "file"), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return errors.Join(unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB),
		unix.FcntlFlock(f.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}))
}

func startThreads(scene) error {
	var all sync.WaitGroup
	var ready sync.WaitGroup
	for range 16 {
		ready.Add(1)
		all.Go(func() {
			runtime.LockOSThread() // not unlocked: the thread ends too
			ready.Done()
			ready.Wait()
		})
	}
	all.Wait()
	return nil
}

// preempt stops the world while a goroutine spins, which takes a signal to its
// thread.
func preempt(scene) error {
	stop, spins := make(chan struct{}), make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		close(spins)
		for i := 0; ; i++ {
			if i&(1<<20-1) == 0 {
				select {
				case <-stop:
					return
				default:
				}
			}
		}
	}()
	<-spins
	for range 10 {
		runtime.GC()
	}
	close(stop)
	<-done
	return nil
}

func loadZone(scene) error {
	if _, err := os.Stat("/usr/share/zoneinfo/Europe/Berlin"); err != nil {
		return nil // there are none on this machine
	}
	return read("/usr/share/zoneinfo/Europe/Berlin")(scene{})
}

func talk(scene) error {
	f := os.NewFile(3, "socket")
	if _, err := f.WriteString("ping"); err != nil {
		return err
	}
	b := make([]byte, 4)
	if _, err := f.Read(b); err != nil || string(b) != "ping" {
		return fmt.Errorf("heard %q: %w", b, err)
	}
	return nil
}

func usePipe(scene) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer w.Close()
	defer r.Close()
	if err := r.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
		return err
	}
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("the pipe has no deadline: %w", err)
	}
	return nil
}

func want(err error, errno unix.Errno) error {
	if errors.Is(err, errno) {
		return nil
	}
	return fmt.Errorf("got %v, want %v", err, errno)
}

func fileLimit(s scene) error {
	f, err := os.Create(filepath.Join(s.Root, "out", "large"))
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.Write(make([]byte, 1<<20+1))
	return errors.Join(want(err, unix.EFBIG), os.Remove(f.Name()))
}

func memoryLimit(scene) error {
	_, err := unix.Mmap(-1, 0, 1<<30+1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err := want(err, unix.ENOMEM); err != nil {
		return err
	}
	b, err := unix.Mmap(-1, 0, 1<<29, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return fmt.Errorf("half the budget: %w", err)
	}
	return unix.Munmap(b)
}

func descriptors(scene) error {
	var open []*os.File
	defer func() {
		for _, f := range open {
			_ = f.Close()
		}
	}()
	for range 65 {
		f, err := os.Open("/proc/meminfo")
		if err != nil {
			return want(err, unix.EMFILE)
		}
		open = append(open, f)
	}
	return errors.New("65 files are open")
}

func noCore(scene) error {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &l); err != nil || l.Cur != 0 || l.Max != 0 {
		return fmt.Errorf("cores of %d of %d bytes: %w", l.Cur, l.Max, err)
	}
	return nil
}

func undumpable(scene) error {
	n, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	if err != nil || n != 0 {
		return fmt.Errorf("dumpable is %d: %w", n, err)
	}
	return nil
}
