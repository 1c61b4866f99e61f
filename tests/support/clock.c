/* A wall clock that a test moves. Preloaded, it shifts CLOCK_REALTIME by the nanoseconds that stand, as one
   64-bit number, in the file $CLOCK_SHIFT_FILE. The file is mapped, so that a shift is seen with the next look
   at the clock, by all processes at once.

   What is written gets its mtime by the shifted clock, as with a clock that was really moved: the kernel has
   another one, so each call that sets "now" is followed by one that says which. Monotonic clocks, sleeps and the
   mtimes of directories stay as they are; so do the times of files that are written through mmap or sendfile. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

_Static_assert(sizeof(long) == 8, "off_t and time_t have 64 bits in every call below");

#define SECOND 1000000000L

static const volatile int64_t *mapped;

__attribute__((constructor)) static void map_the_file(void) {
    const char *path = getenv("CLOCK_SHIFT_FILE");
    int fd = path ? syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    void *found = mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, fd, 0);
    if (found != MAP_FAILED)
        mapped = found;
    syscall(SYS_close, fd);
}

static int64_t shift(void) { return mapped ? *mapped : 0; }

static struct timespec moved(struct timespec t, int64_t by) {
    int64_t all = t.tv_sec * SECOND + t.tv_nsec + by;
    t.tv_sec = all / SECOND;
    t.tv_nsec = all % SECOND;
    if (t.tv_nsec < 0) { /* before 1970 */
        t.tv_sec -= 1;
        t.tv_nsec += SECOND;
    }
    return t;
}

static struct timespec now(void) {
    struct timespec t;
    syscall(SYS_clock_gettime, CLOCK_REALTIME, &t);
    return moved(t, shift());
}

/* --- what the time is ------------------------------------------------------------------------------------- */

int clock_gettime(clockid_t clock, struct timespec *t) {
    int result = syscall(SYS_clock_gettime, clock, t);
    if (!result && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        *t = moved(*t, shift());
    return result;
}

time_t time(time_t *seconds) {
    time_t s = now().tv_sec;
    if (seconds)
        *seconds = s;
    return s;
}

int gettimeofday(struct timeval *restrict t, void *restrict zone) {
    (void)zone;
    struct timespec s = now();
    t->tv_sec = s.tv_sec;
    t->tv_usec = s.tv_nsec / 1000;
    return 0;
}

/* Python 3.10 waits with a timeout until a moment of the wall clock: the kernel's. */
int sem_timedwait(sem_t *restrict semaphore, const struct timespec *restrict until) {
    static int (*real)(sem_t *, const struct timespec *);
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "sem_timedwait");
    struct timespec t = moved(*until, -shift());
    return real(semaphore, &t);
}

/* --- what was written when -------------------------------------------------------------------------------- */

/* Where a clock is not shifted, the kernel's mtime is right. The caller's errno survives. */
static void stamp(int fd) {
    int before = errno;
    struct stat status;
    if (shift() && !fstat(fd, &status) && S_ISREG(status.st_mode)) {
        struct timespec times[2] = {{0, UTIME_OMIT}, now()};
        syscall(SYS_utimensat, fd, NULL, times, 0);
    }
    errno = before;
}

ssize_t write(int fd, const void *data, size_t size) {
    ssize_t written = syscall(SYS_write, fd, data, size);
    if (written > 0)
        stamp(fd);
    return written;
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    ssize_t written = syscall(SYS_pwrite64, fd, data, size, at);
    if (written > 0)
        stamp(fd);
    return written;
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at) { return pwrite64(fd, data, size, at); }

ssize_t writev(int fd, const struct iovec *parts, int count) {
    ssize_t written = syscall(SYS_writev, fd, parts, count);
    if (written > 0)
        stamp(fd);
    return written;
}

int ftruncate64(int fd, off64_t size) {
    int result = syscall(SYS_ftruncate, fd, size);
    if (!result)
        stamp(fd);
    return result;
}

int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

int truncate64(const char *path, off64_t size) {
    int fd = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    int result = ftruncate64(fd, size);
    int before = errno;
    syscall(SYS_close, fd);
    errno = before;
    return result;
}

int truncate(const char *path, off_t size) { return truncate64(path, size); }

/* To open a file sets its mtime where that makes the file or empties it. */
static int opened(int directory, const char *path, int flags, mode_t mode) {
    int sets = flags & O_TRUNC;
    if (flags & O_CREAT && !sets)
        sets = flags & O_EXCL || syscall(SYS_faccessat, directory, path, F_OK);
    int fd = syscall(SYS_openat, directory, path, flags, mode);
    if (fd >= 0 && sets)
        stamp(fd);
    return fd;
}

#define OPENED(directory)                                                                                        \
    mode_t mode = 0;                                                                                             \
    if (flags & (O_CREAT | O_TMPFILE)) {                                                                         \
        va_list rest;                                                                                            \
        va_start(rest, flags);                                                                                   \
        mode = va_arg(rest, mode_t);                                                                             \
        va_end(rest);                                                                                            \
    }                                                                                                            \
    return opened(directory, path, flags, mode);

int open(const char *path, int flags, ...) { OPENED(AT_FDCWD) }
int open64(const char *path, int flags, ...) { OPENED(AT_FDCWD) }
int openat(int directory, const char *path, int flags, ...) { OPENED(directory) }
int openat64(int directory, const char *path, int flags, ...) { OPENED(directory) }

/* "Now" is no time, or UTIME_NOW in place of the nanoseconds. */
int utimensat(int directory, const char *path, const struct timespec times[2], int flags) {
    struct timespec said[2];
    for (int i = 0; i < 2; i++)
        said[i] = times && times[i].tv_nsec != UTIME_NOW ? times[i] : now();
    return syscall(SYS_utimensat, directory, path, said, flags);
}

int futimens(int fd, const struct timespec times[2]) { return utimensat(fd, NULL, times, 0); }
