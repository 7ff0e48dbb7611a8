/* A disk that fails: the FAILING_AT-th write or sync of a file below FAILING_PATH gives FAILING_ERRNO, and so do
   all after it. Loaded with LD_PRELOAD; FAILING_READS=1 takes reads in their place. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static int seen;

static int fails(int fd, int is_read) {
    const char *path = getenv("FAILING_PATH"), *at = getenv("FAILING_AT"), *no = getenv("FAILING_ERRNO");
    const char *reads = getenv("FAILING_READS");
    char link[64], target[PATH_MAX];
    if (!path || !at || !no || is_read != (reads != NULL)) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, target, sizeof target - 1);
    if (length < 0) return 0;
    target[length] = 0;
    if (strncmp(target, path, strlen(path)) != 0) return 0;
    if (__sync_add_and_fetch(&seen, 1) < atoi(at)) return 0;
    errno = atoi(no);
    return 1;
}

#define WRAP(result, name, parameters, arguments, is_read)                                                   \
    result name parameters {                                                                                 \
        static result (*real) parameters;                                                                    \
        if (!real) real = (result (*) parameters)dlsym(RTLD_NEXT, #name);                                    \
        if (fails(fd, is_read)) return -1;                                                                   \
        return real arguments;                                                                               \
    }

WRAP(ssize_t, write, (int fd, const void *data, size_t size), (fd, data, size), 0)
WRAP(ssize_t, pwrite, (int fd, const void *data, size_t size, off_t at), (fd, data, size, at), 0)
WRAP(ssize_t, pwrite64, (int fd, const void *data, size_t size, off64_t at), (fd, data, size, at), 0)
WRAP(int, fsync, (int fd), (fd), 0)
WRAP(int, fdatasync, (int fd), (fd), 0)
WRAP(int, ftruncate, (int fd, off_t size), (fd, size), 0)
WRAP(int, ftruncate64, (int fd, off64_t size), (fd, size), 0)
WRAP(ssize_t, read, (int fd, void *data, size_t size), (fd, data, size), 1)
WRAP(ssize_t, pread, (int fd, void *data, size_t size, off_t at), (fd, data, size, at), 1)
WRAP(ssize_t, pread64, (int fd, void *data, size_t size, off64_t at), (fd, data, size, at), 1)
