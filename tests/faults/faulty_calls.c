/* Preloaded into an interpreter: counts the calls that change files, and lets the n-th of them kill the process or fail.

   Armed by fault_arm() in a forked child; before that every call passes untouched. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/sendfile.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static atomic_int armed;
static atomic_long count;
static long chosen;
static int number;
static int lasting;

#define MOST 65536
static unsigned char writes[MOST];

/* Whether the n-th call was a write. */
int fault_is_write(long n) {
    return n < MOST && writes[n];
}

/* Let the n-th call from now on fail with an errno (0: kill the process; -1: kill it half-way
   through, if it writes; -s: send it the signal s, and let the call pass); `for_ever`: and all that follow. */
void fault_arm(long n, int error, int for_ever) {
    chosen = n;
    number = error;
    lasting = for_ever;
    atomic_store(&count, 0);
    atomic_store(&armed, 1);
}

/* Let all calls pass again; return how many there were. */
long fault_disarm(void) {
    atomic_store(&armed, 0);
    return atomic_load(&count);
}

static int fails(void) {
    if (!atomic_load(&armed)) return 0;
    long here = atomic_fetch_add(&count, 1) + 1;
    if (here != chosen && !(lasting && chosen && here > chosen)) return 0;
    if (number < -1) {
        kill(getpid(), -number);
        return 0;
    }
    if (number <= 0) kill(getpid(), SIGKILL);
    errno = number;
    return 1;
}

/* Note that the next call is a write; return whether it is to be killed half-way. */
static int is_torn(void) {
    if (!atomic_load(&armed)) return 0;
    long next = atomic_load(&count) + 1;
    if (next < MOST) writes[next] = 1;
    return number == -1 && next == chosen;
}

#define WRAP(result, name, parameters, types, arguments) \
    result name parameters { \
        static result(*real) types; \
        if (!real) real = (result(*) types)dlsym(RTLD_NEXT, #name); \
        if (fails()) return -1; \
        return real arguments; \
    }

/* Writes, which can also be cut off half-way: what is in the middle of a killed write may be there or not. */
#define WRAP_WRITE(name, parameters, types, arguments, half) \
    ssize_t name parameters { \
        static ssize_t(*real) types; \
        if (!real) real = (ssize_t(*) types)dlsym(RTLD_NEXT, #name); \
        if (is_torn()) real half; \
        if (fails()) return -1; \
        return real arguments; \
    }

WRAP_WRITE(write, (int fd, const void *data, size_t size), (int, const void *, size_t), (fd, data, size), (fd, data, size / 2))
WRAP_WRITE(pwrite, (int fd, const void *data, size_t size, off_t at), (int, const void *, size_t, off_t), (fd, data, size, at), (fd, data, size / 2, at))
WRAP_WRITE(pwrite64, (int fd, const void *data, size_t size, off64_t at), (int, const void *, size_t, off64_t), (fd, data, size, at), (fd, data, size / 2, at))
WRAP(ssize_t, writev, (int fd, const struct iovec *parts, int number_of), (int, const struct iovec *, int), (fd, parts, number_of))
WRAP(ssize_t, pwritev, (int fd, const struct iovec *parts, int number_of, off_t at), (int, const struct iovec *, int, off_t), (fd, parts, number_of, at))
WRAP(ssize_t, pwritev64, (int fd, const struct iovec *parts, int number_of, off64_t at), (int, const struct iovec *, int, off64_t), (fd, parts, number_of, at))
WRAP(ssize_t, sendfile, (int out, int in, off_t *from, size_t size), (int, int, off_t *, size_t), (out, in, from, size))
WRAP(ssize_t, sendfile64, (int out, int in, off64_t *from, size_t size), (int, int, off64_t *, size_t), (out, in, from, size))
WRAP(ssize_t, copy_file_range, (int in, off64_t *from, int out, off64_t *to, size_t size, unsigned flags), (int, off64_t *, int, off64_t *, size_t, unsigned), (in, from, out, to, size, flags))
WRAP(int, fsync, (int fd), (int), (fd))
WRAP(int, fdatasync, (int fd), (int), (fd))
WRAP(int, syncfs, (int fd), (int), (fd))
WRAP(int, rename, (const char *from, const char *to), (const char *, const char *), (from, to))
WRAP(int, renameat, (int a, const char *from, int b, const char *to), (int, const char *, int, const char *), (a, from, b, to))
WRAP(int, renameat2, (int a, const char *from, int b, const char *to, unsigned flags), (int, const char *, int, const char *, unsigned), (a, from, b, to, flags))
WRAP(int, unlink, (const char *path), (const char *), (path))
WRAP(int, unlinkat, (int fd, const char *path, int flags), (int, const char *, int), (fd, path, flags))
WRAP(int, remove, (const char *path), (const char *), (path))
WRAP(int, rmdir, (const char *path), (const char *), (path))
WRAP(int, mkdir, (const char *path, mode_t mode), (const char *, mode_t), (path, mode))
WRAP(int, mkdirat, (int fd, const char *path, mode_t mode), (int, const char *, mode_t), (fd, path, mode))
WRAP(int, link, (const char *from, const char *to), (const char *, const char *), (from, to))
WRAP(int, linkat, (int a, const char *from, int b, const char *to, int flags), (int, const char *, int, const char *, int), (a, from, b, to, flags))
WRAP(int, symlink, (const char *from, const char *to), (const char *, const char *), (from, to))
WRAP(int, symlinkat, (const char *from, int fd, const char *to), (const char *, int, const char *), (from, fd, to))
WRAP(int, truncate, (const char *path, off_t size), (const char *, off_t), (path, size))
WRAP(int, truncate64, (const char *path, off64_t size), (const char *, off64_t), (path, size))
WRAP(int, ftruncate, (int fd, off_t size), (int, off_t), (fd, size))
WRAP(int, ftruncate64, (int fd, off64_t size), (int, off64_t), (fd, size))
WRAP(int, fallocate, (int fd, int mode, off_t from, off_t size), (int, int, off_t, off_t), (fd, mode, from, size))
WRAP(int, fallocate64, (int fd, int mode, off64_t from, off64_t size), (int, int, off64_t, off64_t), (fd, mode, from, size))
WRAP(int, fchown, (int fd, uid_t user, gid_t group), (int, uid_t, gid_t), (fd, user, group))
WRAP(int, chmod, (const char *path, mode_t mode), (const char *, mode_t), (path, mode))
WRAP(int, fchmod, (int fd, mode_t mode), (int, mode_t), (fd, mode))
WRAP(int, fchmodat, (int fd, const char *path, mode_t mode, int flags), (int, const char *, mode_t, int), (fd, path, mode, flags))
WRAP(int, utimensat, (int fd, const char *path, const struct timespec *times, int flags), (int, const char *, const struct timespec *, int), (fd, path, times, flags))
WRAP(int, futimens, (int fd, const struct timespec *times), (int, const struct timespec *), (fd, times))

#define WRAP_OPEN(name, parameters, types, arguments) \
    int name parameters { \
        static int(*real) types; \
        if (!real) real = (int(*) types)dlsym(RTLD_NEXT, #name); \
        mode_t mode = 0; \
        if (flags & (O_CREAT | O_TMPFILE)) { \
            va_list rest; \
            va_start(rest, flags); \
            mode = va_arg(rest, mode_t); \
            va_end(rest); \
        } \
        if ((flags & O_CREAT) && fails()) return -1; \
        return real arguments; \
    }

WRAP_OPEN(open, (const char *path, int flags, ...), (const char *, int, ...), (path, flags, mode))
WRAP_OPEN(open64, (const char *path, int flags, ...), (const char *, int, ...), (path, flags, mode))
WRAP_OPEN(openat, (int fd, const char *path, int flags, ...), (int, const char *, int, ...), (fd, path, flags, mode))
WRAP_OPEN(openat64, (int fd, const char *path, int flags, ...), (int, const char *, int, ...), (fd, path, flags, mode))

/* The clock that people read, shifted by as many seconds as is wanted. */
static atomic_long shift;

void fault_shift_clock(long seconds) {
    atomic_store(&shift, seconds);
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    static int(*real)(clockid_t, struct timespec *);
    if (!real) real = (int(*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, time);
    if (!result && clock == CLOCK_REALTIME) time->tv_sec += atomic_load(&shift);
    return result;
}
