// A library for LD_PRELOAD that stands before libc's calls that change files. It
// notes each call in a file that it shares with the test, and carries out the
// faults that the test has put there. See faultshim.go, which makes that file.
//
// The file is mapped before main: closing descriptors, a sandbox or a limit on
// the size of files take nothing away. Everything real is done by syscall(2), so
// nothing here can meet itself.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

enum { MAX_RULES = 32, LOG_AT = 16384, LOG_SIZE = 16 << 20 };
enum { ONWARD = 1, KILL = 2, SHORT = 4, DONE = 8 };

// The layout is also in control.go.
struct rule {
	char path[256], kind[32];
	uint64_t nth, length, delay; // delay in microseconds
	uint32_t error, flags;
};

struct shared {
	_Atomic uint64_t generation; // odd while the rules are written
	_Atomic uint64_t order;      // of the last call
	_Atomic uint64_t used;       // bytes of the log
	uint64_t rules;
	char unused[32];
	_Atomic uint64_t counts[MAX_RULES];
	char unused_too[192];
	struct rule rule[MAX_RULES];
};
_Static_assert(sizeof(struct shared) <= LOG_AT, "the rules run into the log");

static struct shared *shared;

__attribute__((constructor)) static void start(void) {
	const char *path = getenv("EIDER_FAULTS");
	if (path == NULL)
		return;
	int fd = syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
	void *at = fd < 0 ? MAP_FAILED : mmap(NULL, LOG_AT + LOG_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (at == MAP_FAILED) { // a test without its faults would pass
		perror("faultshim: cannot map $EIDER_FAULTS");
		_exit(126);
	}
	syscall(SYS_close, fd);
	shared = at;
}

struct call {
	const char *kind, *path, *to;
	long number, args[6];
	size_t size;
	int size_at;             // which argument is the size, -1: none
	const struct iovec *vec; // of a call with a vector
};

static int matches_path(const char *pattern, const char *path) {
	size_t n = strlen(pattern), have = path == NULL ? 0 : strlen(path);
	if (path == NULL)
		return 0;
	if (n > 0 && pattern[n - 1] == '$')
		return have >= n - 1 && memcmp(path + have - (n - 1), pattern, n - 1) == 0;
	return strstr(path, pattern) != NULL;
}

static int matches(const struct rule *r, const struct call *c) {
	if (r->kind[0] != 0 && strcmp(r->kind, c->kind) != 0)
		return 0;
	return matches_path(r->path, c->path) || matches_path(r->path, c->to);
}

// find counts the call for each rule that it matches and returns the first that
// is due, or -1. Rules that are changed meanwhile have not met the call.
static int find(const struct call *c, struct rule *due) {
	uint64_t generation = atomic_load(&shared->generation);
	int found = -1;
	if (generation % 2 == 1)
		return -1;
	for (uint64_t i = 0; i < shared->rules && i < MAX_RULES; i++) {
		struct rule r = shared->rule[i];
		if (atomic_load(&shared->generation) != generation)
			return -1;
		if (!matches(&r, c))
			continue;
		uint64_t n = atomic_fetch_add(&shared->counts[i], 1) + 1;
		int hit = r.nth == 0 || n == r.nth || (n > r.nth && (r.flags & ONWARD));
		if (hit && found < 0) {
			found = (int)i;
			*due = r;
		}
	}
	return found;
}

static void note(const struct call *c, uint64_t order, int rule, long result, int error, const char *end) {
	char line[9000];
	int n = snprintf(line, sizeof line, "%d %llu %s %zu %ld %d %d %s%s%s%s", (int)getpid(), (unsigned long long)order,
		c->kind, c->size, result, error, rule, end, c->path, c->to ? "\t" : "", c->to ? c->to : "");
	if (n >= (int)sizeof line)
		n = sizeof line - 1;
	for (int i = 0; i < n; i++)
		if (line[i] == '\n')
			line[i] = '?';
	line[n++] = '\n';
	uint64_t at = atomic_fetch_add(&shared->used, n);
	if (at + n <= LOG_SIZE)
		memcpy((char *)shared + LOG_AT + at, line, n);
}

static long carry_out(const struct call *c, size_t size) {
	long a[6];
	struct iovec first;
	memcpy(a, c->args, sizeof a);
	if (size < c->size && c->vec != NULL) {
		first = c->vec[0];
		if (first.iov_len > size)
			first.iov_len = size;
		a[1] = (long)&first;
		a[2] = 1;
	} else if (size < c->size && c->size_at >= 0) {
		a[c->size_at] = (long)size;
	}
	return syscall(c->number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

static void wait_for(uint64_t microseconds) {
	struct timespec t = {microseconds / 1000000, microseconds % 1000000 * 1000};
	while (nanosleep(&t, &t) != 0 && errno == EINTR)
		;
}

static long run(const struct call *c) {
	if (shared == NULL || c->path == NULL || c->path[0] == 0)
		return carry_out(c, c->size);
	int before = errno;
	uint64_t order = atomic_fetch_add(&shared->order, 1) + 1;
	struct rule r = {.flags = 0};
	int rule = find(c, &r);
	if (r.delay > 0)
		wait_for(r.delay);
	int cut = (r.flags & SHORT) && r.length < c->size, fault = r.error != 0 || (r.flags & KILL);
	errno = before;
	long result = -1;
	if (cut || (r.flags & DONE) || !fault)
		result = carry_out(c, cut ? r.length : c->size);
	int error = result < 0 ? errno : 0;
	if (r.flags & KILL) {
		note(c, order, rule, result, error, "! ");
		syscall(SYS_kill, getpid(), SIGKILL);
		_exit(137); // where a sandbox forbids it
	}
	if (r.error != 0) {
		result = -1;
		error = r.error;
	}
	note(c, order, rule, result, error, ". ");
	errno = result < 0 ? error : before;
	return result;
}

// of fills in the path of a descriptor. What is no file, as a socket, has none.
static long of(int fd, struct call c) {
	char link[32], path[4200];
	if (shared == NULL)
		return run(&c);
	int before = errno;
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	ssize_t n = syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof path - 1);
	errno = before;
	path[n < 0 ? 0 : n] = 0;
	if (path[0] == '/')
		c.path = path;
	return run(&c);
}

EXPORT ssize_t write(int fd, const void *from, size_t size) {
	return of(fd, (struct call){"write", .number = SYS_write, .args = {fd, (long)from, (long)size}, .size = size, .size_at = 2});
}

EXPORT ssize_t pwrite(int fd, const void *from, size_t size, off_t at) {
	return of(fd, (struct call){"pwrite", .number = SYS_pwrite64, .args = {fd, (long)from, (long)size, at}, .size = size, .size_at = 2});
}

EXPORT ssize_t pwrite64(int fd, const void *from, size_t size, off64_t at) { return pwrite(fd, from, size, at); }

static size_t total(const struct iovec *v, int n) {
	size_t sum = 0;
	for (int i = 0; i < n; i++)
		sum += v[i].iov_len;
	return sum;
}

EXPORT ssize_t writev(int fd, const struct iovec *v, int n) {
	return of(fd, (struct call){"write", .number = SYS_writev, .args = {fd, (long)v, n}, .size = total(v, n), .size_at = -1, .vec = v});
}

EXPORT ssize_t pwritev(int fd, const struct iovec *v, int n, off_t at) {
	return of(fd, (struct call){"pwrite", .number = SYS_pwritev, .args = {fd, (long)v, n, at}, .size = total(v, n), .size_at = -1, .vec = v});
}

EXPORT ssize_t pwritev64(int fd, const struct iovec *v, int n, off64_t at) { return pwritev(fd, v, n, at); }

EXPORT int fsync(int fd) { return of(fd, (struct call){"fsync", .number = SYS_fsync, .args = {fd}, .size_at = -1}); }

EXPORT int fdatasync(int fd) { return of(fd, (struct call){"fdatasync", .number = SYS_fdatasync, .args = {fd}, .size_at = -1}); }

EXPORT int ftruncate(int fd, off_t size) {
	return of(fd, (struct call){"truncate", .number = SYS_ftruncate, .args = {fd, size}, .size_at = -1});
}

EXPORT int ftruncate64(int fd, off64_t size) { return ftruncate(fd, size); }

EXPORT int fallocate(int fd, int mode, off_t at, off_t size) {
	return of(fd, (struct call){"fallocate", .number = SYS_fallocate, .args = {fd, mode, at, size}, .size = size, .size_at = -1});
}

EXPORT int fallocate64(int fd, int mode, off64_t at, off64_t size) { return fallocate(fd, mode, at, size); }

EXPORT int posix_fallocate(int fd, off_t at, off_t size) {
	int before = errno, error = fallocate(fd, 0, at, size) == 0 ? 0 : errno;
	errno = before;
	return error;
}

EXPORT int posix_fallocate64(int fd, off64_t at, off64_t size) { return posix_fallocate(fd, at, size); }

EXPORT int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags) {
	struct call c = {"rename", from, to, SYS_renameat2, {from_dir, (long)from, to_dir, (long)to, flags}, .size_at = -1};
	return run(&c);
}

EXPORT int renameat(int from_dir, const char *from, int to_dir, const char *to) { return renameat2(from_dir, from, to_dir, to, 0); }

EXPORT int rename(const char *from, const char *to) { return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0); }

EXPORT int unlinkat(int dir, const char *path, int flags) {
	struct call c = {"unlink", path, NULL, SYS_unlinkat, {dir, (long)path, flags}, .size_at = -1};
	return run(&c);
}

EXPORT int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }

EXPORT int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }

EXPORT int remove(const char *path) {
	int before = errno, result = unlink(path);
	if (result != 0 && errno == EISDIR) {
		errno = before;
		result = rmdir(path);
	}
	return result;
}

static int open_at(int dir, const char *path, int flags, mode_t mode) {
	struct call c = {"open", path, NULL, SYS_openat, {dir, (long)path, flags, mode}, .size_at = -1};
	return run(&c);
}

static mode_t mode_of(int flags, va_list more) {
	return (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(more, mode_t) : 0;
}

#define WITH_MODE(flags, call)         \
	va_list more;                      \
	va_start(more, flags);             \
	mode_t mode = mode_of(flags, more); \
	va_end(more);                      \
	return call

EXPORT int open(const char *path, int flags, ...) { WITH_MODE(flags, open_at(AT_FDCWD, path, flags, mode)); }

EXPORT int open64(const char *path, int flags, ...) { WITH_MODE(flags, open_at(AT_FDCWD, path, flags, mode)); }

EXPORT int openat(int dir, const char *path, int flags, ...) { WITH_MODE(flags, open_at(dir, path, flags, mode)); }

EXPORT int openat64(int dir, const char *path, int flags, ...) { WITH_MODE(flags, open_at(dir, path, flags, mode)); }

// What a compiler makes of open where it checks the arguments.
EXPORT int __open_2(const char *path, int flags) { return open_at(AT_FDCWD, path, flags, 0); }

EXPORT int __open64_2(const char *path, int flags) { return open_at(AT_FDCWD, path, flags, 0); }

EXPORT int __openat_2(int dir, const char *path, int flags) { return open_at(dir, path, flags, 0); }

EXPORT int __openat64_2(int dir, const char *path, int flags) { return open_at(dir, path, flags, 0); }

EXPORT int creat(const char *path, mode_t mode) { return open_at(AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, mode); }

EXPORT int creat64(const char *path, mode_t mode) { return creat(path, mode); }
