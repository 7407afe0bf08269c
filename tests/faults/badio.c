/* Put before libc by LD_PRELOAD: writing and syncing of files whose path holds "/state/" goes wrong as the word in the
   file named by BADIO says: "enospc", "eio", "erofs" fail; "slow" makes every sync take 300 ms; anything else is well.
   Every time it does something it appends a line to the file named by BADIO_HITS. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static char mode(int fd) {
    char path[64], target[4096], word[16] = "";
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(path, target, sizeof target - 1);
    if (n <= 0) return 0;
    target[n] = 0;
    if (!strstr(target, "/state/")) return 0;
    const char *control = getenv("BADIO");
    int in = control ? (int)syscall(SYS_openat, AT_FDCWD, control, O_RDONLY | O_CLOEXEC, 0) : -1;
    if (in < 0) return 0;
    syscall(SYS_read, in, word, sizeof word - 1);
    syscall(SYS_close, in);
    if (!strncmp(word, "enospc", 6)) return 'n';
    if (!strncmp(word, "eio", 3)) return 'e';
    if (!strncmp(word, "erofs", 5)) return 'r';
    return strncmp(word, "slow", 4) ? 0 : 's';
}

static void hit(void) {
    const char *file = getenv("BADIO_HITS");
    int out = file ? (int)syscall(SYS_openat, AT_FDCWD, file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
    if (out < 0) return;
    syscall(SYS_write, out, "badio\n", 6);
    syscall(SYS_close, out);
}

static int refuses(int fd) {
    char what = mode(fd);
    if (!what || what == 's') return 0;
    hit();
    errno = what == 'n' ? ENOSPC : what == 'e' ? EIO : EROFS;
    return 1;
}

static void delays(int fd) {
    if (mode(fd) != 's') return;
    hit();
    usleep(300000);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int fd, const void *data, size_t size) { return refuses(fd) ? -1 : REAL(write)(fd, data, size); }
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) { return refuses(fd) ? -1 : REAL(pwrite)(fd, data, size, at); }
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) { return refuses(fd) ? -1 : REAL(pwrite64)(fd, data, size, at); }
int ftruncate(int fd, off_t size) { return refuses(fd) ? -1 : REAL(ftruncate)(fd, size); }
int ftruncate64(int fd, off64_t size) { return refuses(fd) ? -1 : REAL(ftruncate64)(fd, size); }
int fsync(int fd) { if (refuses(fd)) return -1; delays(fd); return REAL(fsync)(fd); }
int fdatasync(int fd) { if (refuses(fd)) return -1; delays(fd); return REAL(fdatasync)(fd); }
