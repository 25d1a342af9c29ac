// Package confine takes from the calling process what a worker does not need
// before it opens a tenant's database, and says what of it holds.
//
// DuckDB trusts its caller, and its own locks can be got round by SQL. So what
// a statement must not reach is kept from it by the kernel: whatever DuckDB is
// talked into, and whoever runs code in it, ends at the project's folder, at the
// worker's memory, and at the socket that it was born with. Apply is called once,
// by the worker itself, before DuckDB has opened any file; it holds for every
// thread, those that run already included, and cannot be taken back.
//
// # The order
//
// Each step takes away what the ones before it needed:
//
//  1. The score for the kernel's out-of-memory killer is raised: it is written to
//     a file of /proc that no rule of Landlock leaves writable.
//  2. Limits: address space, size of a file, open files, no core dumps. SIGXFSZ is
//     ignored first, so that a file at its limit is an error of write and not the
//     end of the process.
//  3. no_new_privs, on which an unprivileged process may use the next two.
//  4. Landlock: which files exist for this process. The library goes through all
//     threads, for which it signals them and reads /proc/self/task.
//  5. Not dumpable. From here on /proc/self belongs to root, so a worker that runs
//     as a user could no longer open the files there that Landlock names.
//  6. The filter of system calls, by TSYNC into all threads at once. It is last:
//     it refuses prctl, prlimit and seccomp itself.
//
// Then two forbidden things are tried, because a kernel, or what stands in for
// one in a container, may accept a rule and not keep it.
//
// # What holds why
//
// Files. `db/` may be written, `in/` only read, `out/` written, each by a rule of
// its own. There is no rule for their parent: rules only add up, so that a right
// to the parent would be one to write into `in/`, where a registered file may be
// hard-linked, and to project.json and the lock. No rule lets anything be
// executed, nor a symbolic link, a socket, a pipe or a device be made: the server
// walks these folders with its own rights and must find plain files in them.
// Outside, a few files can be read that DuckDB, the C library and Go look at.
// DuckDB aborts where the file of its control group exists and cannot be read, so
// these are not optional. Of /proc only single files are named, since all of it
// would show the other processes of the machine. The kernel makes the entries of
// /proc anew when it is short of memory, and a rule is bound to the entry it was
// made with, so that they are held open for the life of the process.
//
// System calls. The filter is a list of what is refused. What concerns other
// processes, the network, privileges, mounts, attributes of files, schedulers,
// shared memory and the whole machine returns EPERM; a call by another
// architecture's table kills the process; a call that is newer than the list
// returns ENOSYS, which every library takes for an older kernel. It looks at
// arguments where a worker needs a part: threads but no processes, signals to
// itself (Go's scheduler preempts by tgkill), reading limits but not setting
// them, memory that is not executable. `clone3` and `openat2` take their
// arguments from memory, where a filter cannot see them, so they do not exist; the
// C library and Go use the older calls then. Calls that are always allowed cost
// nothing: the kernel remembers them in a bitmap.
//
// Network. No socket can be made. Those that were inherited still carry data, the
// worker's own among them. Landlock denies TCP besides, from ABI 4.
//
// Memory. The limit is one of address space: what the process has when Apply is
// called (1.4 to 1.8 GB, nearly all of it reserved and never touched), plus the
// budget. A budget must therefore hold what threads reserve too: 8 MiB of stack
// each, and 64 MiB for each arena that the C library makes, as many as 8 for a
// processor: 16 new threads took 0.7 GiB of it, and 0.06 with MALLOC_ARENA_MAX=2
// in the environment that the worker was started with, where it belongs. Beyond
// the budget DuckDB's allocations fail, as a clean out-of-memory error. Go's
// fail as well, which ends the process: a worker may die of it, nobody else.
//
// What is not here: the parent's death signal, the watchdog on resident size and
// time, and an empty environment are the business of whoever starts the worker.
// So are its standard streams: no rule covers a pipe, and as root SQL can write to
// the worker's by the name /dev/stderr, so that who reads it must expect anything.
// A process that runs as root keeps its capabilities; the filter and Landlock
// bound what they are good for.
package confine
