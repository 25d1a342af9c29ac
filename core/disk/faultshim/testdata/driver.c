// Does what each line of its input says and answers with the result and errno.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static int fd = -1;

static long run(const char *verb, char *a, char *b) {
	struct iovec v[2] = {{a, strlen(a)}, {b, strlen(b)}};
	volatile int flags = O_RDWR | O_CREAT, error;
	if (strcmp(verb, "open") == 0)
		return (fd = open(a, O_RDWR | O_CREAT, 0600)) < 0 ? -1 : 0;
	if (strcmp(verb, "openat") == 0)
		return (fd = openat(AT_FDCWD, a, flags, 0600)) < 0 ? -1 : 0;
	if (strcmp(verb, "reopen") == 0)
		return (fd = open(a, flags & O_RDWR)) < 0 ? -1 : 0;
	if (strcmp(verb, "creat") == 0)
		return (fd = creat(a, 0600)) < 0 ? -1 : 0;
	if (strcmp(verb, "write") == 0)
		return write(fd, a, strlen(a));
	if (strcmp(verb, "pwrite") == 0)
		return pwrite(fd, a, strlen(a), atoi(b));
	if (strcmp(verb, "writev") == 0)
		return writev(fd, v, 2);
	if (strcmp(verb, "pwritev") == 0)
		return pwritev(fd, v, 2, 0);
	if (strcmp(verb, "fsync") == 0)
		return fsync(fd);
	if (strcmp(verb, "fdatasync") == 0)
		return fdatasync(fd);
	if (strcmp(verb, "ftruncate") == 0)
		return ftruncate(fd, atoi(a));
	if (strcmp(verb, "fallocate") == 0)
		return fallocate(fd, 0, 0, atoi(a));
	if (strcmp(verb, "posix_fallocate") == 0) {
		error = posix_fallocate(fd, 0, atoi(a));
		return error == 0 ? 0 : (errno = error, -1);
	}
	if (strcmp(verb, "rename") == 0)
		return rename(a, b);
	if (strcmp(verb, "renameat") == 0)
		return renameat(AT_FDCWD, a, AT_FDCWD, b);
	if (strcmp(verb, "unlink") == 0)
		return unlink(a);
	if (strcmp(verb, "unlinkat") == 0)
		return unlinkat(AT_FDCWD, a, 0);
	if (strcmp(verb, "remove") == 0)
		return remove(a);
	errno = ENOSYS;
	return -1;
}

int main(void) {
	char line[9000], verb[32], a[4200], b[4200], answer[64];
	while (fgets(line, sizeof line, stdin) != NULL) {
		a[0] = b[0] = 0;
		sscanf(line, "%31s %4199s %4199s", verb, a, b);
		errno = 0;
		long result = run(verb, a, b);
		int error = errno;
		snprintf(answer, sizeof answer, "%ld %d", result, error);
		puts(answer); // by libc itself: not seen
		fflush(stdout);
	}
	return 0;
}
