/* The fallible calls of calls.cmake, each led through inject.c. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/kvm.h>
#include <openssl/evp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zstd.h>

#include "tests/faults/inject.h"

#pragma GCC diagnostic ignored "-Wframe-address"
#pragma GCC diagnostic ignored "-Wmissing-prototypes"

/* Calls that say -1 and errno. */
#define WRAP(type, symbol, name, failed, error, detail, parameters, arguments)                     \
	type __real_##symbol parameters;                                                           \
	type __wrap_##symbol parameters;                                                           \
	type __wrap_##symbol parameters                                                            \
	{                                                                                          \
		enum mode mode = JUDGE(name, detail);                                              \
                                                                                                   \
		if (mode) {                                                                        \
			errno = mode == MODE_EINTR ? EINTR : (error);                              \
			return failed;                                                             \
		}                                                                                  \
		return __real_##symbol arguments;                                                  \
	}

/* Those that move bytes, @length of them. */
#define WRAP_TRANSFER(symbol, name, error, length, parameters, arguments)                          \
	ssize_t __real_##symbol parameters;                                                        \
	ssize_t __wrap_##symbol parameters;                                                        \
	ssize_t __wrap_##symbol parameters                                                         \
	{                                                                                          \
		enum mode mode = JUDGE(name, 0);                                                   \
                                                                                                   \
		if (mode == MODE_SHORT)                                                            \
			length -= length / 2;                                                      \
		else if (mode) {                                                                   \
			errno = mode == MODE_EINTR ? EINTR : (error);                              \
			return -1;                                                                 \
		}                                                                                  \
		return __real_##symbol arguments;                                                  \
	}

/* Those that return the error. */
#define WRAP_RESULT(symbol, name, error, detail, parameters, arguments)                            \
	int __real_##symbol parameters;                                                            \
	int __wrap_##symbol parameters;                                                            \
	int __wrap_##symbol parameters                                                             \
	{                                                                                          \
		enum mode mode = JUDGE(name, detail);                                              \
                                                                                                   \
		return mode ? (error) : __real_##symbol arguments;                                 \
	}

WRAP(void *, malloc, "malloc", NULL, ENOMEM, 0, (size_t size), (size))
WRAP(void *, calloc, "calloc", NULL, ENOMEM, 0, (size_t n, size_t size), (n, size))
WRAP(void *, realloc, "realloc", NULL, ENOMEM, 0, (void *old, size_t size), (old, size))
WRAP(void *, aligned_alloc, "aligned_alloc", NULL, ENOMEM, 0, (size_t align, size_t size),
     (align, size))
WRAP(char *, strdup, "strdup", NULL, ENOMEM, 0, (const char *text), (text))
WRAP(char *, strndup, "strndup", NULL, ENOMEM, 0, (const char *text, size_t size), (text, size))
WRAP(FILE *, open_memstream, "open_memstream", NULL, ENOMEM, 0, (char **text, size_t *size),
     (text, size))
WRAP(FILE *, fopen64, "fopen", NULL, EMFILE, 0, (const char *path, const char *how), (path, how))
WRAP(FILE *, fdopen, "fdopen", NULL, ENOMEM, 0, (int fd, const char *how), (fd, how))
WRAP(DIR *, opendir, "opendir", NULL, EMFILE, 0, (const char *path), (path))
WRAP(void *, mmap64, "mmap", MAP_FAILED, ENOMEM, 0,
     (void *address, size_t size, int protection, int flags, int fd, off_t offset),
     (address, size, protection, flags, fd, offset))
WRAP(int, mprotect, "mprotect", -1, ENOMEM, 0, (void *address, size_t size, int protection),
     (address, size, protection))
WRAP(int, madvise, "madvise", -1, ENOMEM, advice, (void *address, size_t size, int advice),
     (address, size, advice))
WRAP(int, mlock, "mlock", -1, ENOMEM, 0, (const void *address, size_t size), (address, size))
WRAP(int, mincore, "mincore", -1, EAGAIN, 0, (void *address, size_t size, unsigned char *pages),
     (address, size, pages))
WRAP(int, memfd_create, "memfd_create", -1, EMFILE, 0, (const char *name, unsigned flags),
     (name, flags))
WRAP(int, eventfd, "eventfd", -1, EMFILE, 0, (unsigned value, int flags), (value, flags))
WRAP(int, signalfd, "signalfd", -1, EMFILE, 0, (int fd, const sigset_t *mask, int flags),
     (fd, mask, flags))
WRAP(int, timerfd_create, "timerfd_create", -1, EMFILE, 0, (int clock, int flags), (clock, flags))
WRAP(int, timerfd_settime, "timerfd_settime", -1, EINVAL, 0,
     (int fd, int flags, const struct itimerspec *new, struct itimerspec *old),
     (fd, flags, new, old))
WRAP(int, epoll_create1, "epoll_create1", -1, EMFILE, 0, (int flags), (flags))
WRAP(int, epoll_ctl, "epoll_ctl", -1, ENOSPC, operation,
     (int fd, int operation, int watched, struct epoll_event *event),
     (fd, operation, watched, event))
WRAP(int, epoll_wait, "epoll_wait", -1, ENOMEM, 0,
     (int fd, struct epoll_event *events, int size, int timeout), (fd, events, size, timeout))
WRAP(int, poll, "poll", -1, ENOMEM, 0, (struct pollfd * fds, nfds_t size, int timeout),
     (fds, size, timeout))
WRAP(int, ppoll, "ppoll", -1, ENOMEM, 0,
     (struct pollfd * fds, nfds_t size, const struct timespec *timeout, const sigset_t *mask),
     (fds, size, timeout, mask))
WRAP(int, pipe2, "pipe2", -1, EMFILE, 0, (int fds[2], int flags), (fds, flags))
WRAP(int, socket, "socket", -1, EMFILE, 0, (int domain, int type, int protocol),
     (domain, type, protocol))
WRAP(int, bind, "bind", -1, ENOSPC, 0, (int fd, const struct sockaddr *address, socklen_t size),
     (fd, address, size))
WRAP(int, listen, "listen", -1, EADDRINUSE, 0, (int fd, int backlog), (fd, backlog))
WRAP(int, connect, "connect", -1, EAGAIN, 0,
     (int fd, const struct sockaddr *address, socklen_t size), (fd, address, size))
WRAP(int, accept4, "accept4", -1, EMFILE, 0,
     (int fd, struct sockaddr *address, socklen_t *size, int flags), (fd, address, size, flags))
WRAP(int, setsockopt, "setsockopt", -1, ENOMEM, option,
     (int fd, int level, int option, const void *value, socklen_t size),
     (fd, level, option, value, size))
WRAP(int, getsockopt, "getsockopt", -1, ENOBUFS, option,
     (int fd, int level, int option, void *value, socklen_t *size),
     (fd, level, option, value, size))
WRAP(int, getsockname, "getsockname", -1, ENOBUFS, 0,
     (int fd, struct sockaddr *address, socklen_t *size), (fd, address, size))
WRAP(int, ftruncate64, "ftruncate", -1, EIO, 0, (int fd, off_t size), (fd, size))
WRAP(int, fallocate64, "fallocate", -1, EIO, flags, (int fd, int flags, off_t at, off_t size),
     (fd, flags, at, size))
WRAP(int, fstat64, "fstat", -1, EIO, 0, (int fd, struct stat *status), (fd, status))
WRAP(int, stat64, "stat", -1, EIO, 0, (const char *path, struct stat *status), (path, status))
WRAP(int, lstat64, "lstat", -1, EIO, 0, (const char *path, struct stat *status), (path, status))
WRAP(off_t, lseek64, "lseek", -1, EIO, whence, (int fd, off_t offset, int whence),
     (fd, offset, whence))
WRAP(int, fdatasync, "fdatasync", -1, EIO, 0, (int fd), (fd))
WRAP(int, sync_file_range, "sync_file_range", -1, EIO, flags,
     (int fd, off_t at, off_t size, unsigned flags), (fd, at, size, flags))
WRAP(int, flock, "flock", -1, ENOLCK, 0, (int fd, int operation), (fd, operation))
WRAP(int, mkdir, "mkdir", -1, ENOSPC, 0, (const char *path, mode_t bits), (path, bits))
WRAP(int, rename, "rename", -1, EIO, 0, (const char *from, const char *to), (from, to))
WRAP(int, unlink, "unlink", -1, EIO, 0, (const char *path), (path))
WRAP(int, chmod, "chmod", -1, EIO, 0, (const char *path, mode_t bits), (path, bits))
WRAP(int, fchmod, "fchmod", -1, EIO, 0, (int fd, mode_t bits), (fd, bits))
WRAP(int, setrlimit64, "setrlimit", -1, EPERM, what, (int what, const struct rlimit *limit),
     (what, limit))
WRAP(int, unshare, "unshare", -1, EPERM, 0, (int flags), (flags))
WRAP(int, mount, "mount", -1, EPERM, 0,
     (const char *source, const char *target, const char *type, unsigned long flags,
      const void *data),
     (source, target, type, flags, data))
WRAP(int, sigaction, "sigaction", -1, EINVAL, number,
     (int number, const struct sigaction *new, struct sigaction *old), (number, new, old))
WRAP(pid_t, fork, "fork", -1, EAGAIN, 0, (void), ())
WRAP(pid_t, waitpid, "waitpid", -1, ECHILD, 0, (pid_t pid, int *status, int options),
     (pid, status, options))
WRAP(int, getrlimit64, "getrlimit", -1, EINVAL, 0, (int what, struct rlimit *limit), (what, limit))
WRAP(int, sched_getaffinity, "sched_getaffinity", -1, EINVAL, 0,
     (pid_t pid, size_t size, cpu_set_t *set), (pid, size, set))

WRAP_RESULT(posix_fadvise64, "posix_fadvise", EIO, 0, (int fd, off_t at, off_t size, int advice),
	    (fd, at, size, advice))
WRAP_RESULT(pthread_create, "pthread_create", EAGAIN, 0,
	    (pthread_t * thread, const pthread_attr_t *attributes, void *(*run)(void *),
	     void *opaque),
	    (thread, attributes, run, opaque))
WRAP_RESULT(pthread_setaffinity_np, "pthread_setaffinity", EINVAL, 0,
	    (pthread_t thread, size_t size, const cpu_set_t *set), (thread, size, set))
WRAP_RESULT(pthread_setschedparam, "pthread_setschedparam", EPERM, 0,
	    (pthread_t thread, int policy, const struct sched_param *parameters),
	    (thread, policy, parameters))

WRAP_TRANSFER(read, "read", EIO, size, (int fd, void *buffer, size_t size), (fd, buffer, size))
WRAP_TRANSFER(write, "write", EIO, size, (int fd, const void *buffer, size_t size),
	      (fd, buffer, size))
WRAP_TRANSFER(pread64, "pread", EIO, size, (int fd, void *buffer, size_t size, off_t at),
	      (fd, buffer, size, at))
WRAP_TRANSFER(pwrite64, "pwrite", ENOSPC, size, (int fd, const void *buffer, size_t size, off_t at),
	      (fd, buffer, size, at))
WRAP_TRANSFER(preadv64, "preadv", EIO, size,
	      (int fd, const struct iovec *parts, int size, off_t at), (fd, parts, size, at))
WRAP_TRANSFER(pwritev64v2, "pwritev2", EIO, size,
	      (int fd, const struct iovec *parts, int size, off_t at, int flags),
	      (fd, parts, size, at, flags))
WRAP_TRANSFER(recv, "recv", ECONNRESET, size, (int fd, void *buffer, size_t size, int flags),
	      (fd, buffer, size, flags))
WRAP_TRANSFER(send, "send", ENOBUFS, size, (int fd, const void *buffer, size_t size, int flags),
	      (fd, buffer, size, flags))
WRAP_TRANSFER(readv, "readv", EIO, size, (int fd, const struct iovec *parts, int size),
	      (fd, parts, size))
WRAP_TRANSFER(writev, "writev", EIO, size, (int fd, const struct iovec *parts, int size),
	      (fd, parts, size))
WRAP(ssize_t, recvmsg, "recvmsg", -1, ENOMEM, 0, (int fd, struct msghdr *message, int flags),
     (fd, message, flags))
WRAP(ssize_t, sendmsg, "sendmsg", -1, ENOBUFS, 0, (int fd, const struct msghdr *message, int flags),
     (fd, message, flags))
WRAP(int, socketpair, "socketpair", -1, EMFILE, 0, (int domain, int type, int protocol, int fds[2]),
     (domain, type, protocol, fds))
WRAP_TRANSFER(getrandom, "getrandom", ENOSYS, size, (void *buffer, size_t size, unsigned flags),
	      (buffer, size, flags))

WRAP(EVP_CIPHER_CTX *, EVP_CIPHER_CTX_new, "EVP_CIPHER_CTX_new", NULL, ENOMEM, 0, (void), ())
WRAP(EVP_CIPHER *, EVP_CIPHER_fetch, "EVP_CIPHER_fetch", NULL, ENOMEM, 0,
     (OSSL_LIB_CTX * context, const char *algorithm, const char *properties),
     (context, algorithm, properties))
WRAP(int, EVP_EncryptUpdate, "EVP_EncryptUpdate", 0, ENOMEM, 0,
     (EVP_CIPHER_CTX * context, unsigned char *out, int *out_size, const unsigned char *in,
      int in_size),
     (context, out, out_size, in, in_size))
WRAP(EVP_MD_CTX *, EVP_MD_CTX_new, "EVP_MD_CTX_new", NULL, ENOMEM, 0, (void), ())
WRAP(ZSTD_CCtx *, ZSTD_createCCtx, "ZSTD_createCCtx", NULL, ENOMEM, 0, (void), ())
WRAP(ZSTD_DCtx *, ZSTD_createDCtx, "ZSTD_createDCtx", NULL, ENOMEM, 0, (void), ())

WRAP_RESULT(io_uring_queue_init, "io_uring_queue_init", -ENOMEM, 0,
	    (unsigned size, struct io_uring *ring, unsigned flags), (size, ring, flags))
WRAP_RESULT(io_uring_register_eventfd, "io_uring_register_evfd", -ENOMEM, 0,
	    (struct io_uring * ring, int fd), (ring, fd))
WRAP(struct io_uring_probe *, io_uring_get_probe_ring, "io_uring_get_probe", NULL, ENOMEM, 0,
     (struct io_uring * ring), (ring))

int __real_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...)
{
	enum mode mode = JUDGE("open", 0);
	va_list list;
	mode_t permissions;

	va_start(list, flags);
	permissions = va_arg(list, mode_t);
	va_end(list);
	if (mode) {
		errno = mode == MODE_EINTR ? EINTR : EMFILE;
		return -1;
	}
	return __real_open64(path, flags, permissions);
}

int __real_prctl(int option, ...);
int __wrap_prctl(int option, ...);
int __wrap_prctl(int option, ...)
{
	enum mode mode = JUDGE("prctl", option);
	unsigned long words[4];
	va_list list;

	va_start(list, option);
	for (size_t i = 0; i < 4; i++)
		words[i] = va_arg(list, unsigned long);
	va_end(list);
	if (mode) {
		errno = EPERM;
		return -1;
	}
	return __real_prctl(option, words[0], words[1], words[2], words[3]);
}

int __real_fcntl64(int fd, int command, ...);
int __wrap_fcntl64(int fd, int command, ...);
int __wrap_fcntl64(int fd, int command, ...)
{
	enum mode mode = JUDGE("fcntl", command);
	va_list list;
	void *argument;

	va_start(list, command);
	argument = va_arg(list, void *);
	va_end(list);
	if (mode) {
		errno = EPERM;
		return -1;
	}
	return __real_fcntl64(fd, command, argument);
}

/* KVM_RUN is where a guest's life goes wrong; the rest is set-up or userfaultfd. */
int __real_ioctl(int fd, unsigned long request, ...);
int __wrap_ioctl(int fd, unsigned long request, ...);
int __wrap_ioctl(int fd, unsigned long request, ...)
{
	enum mode mode = JUDGE("ioctl", request);
	va_list list;
	void *argument;

	va_start(list, request);
	argument = va_arg(list, void *);
	va_end(list);
	if (mode) {
		errno = mode == MODE_EINTR ? EINTR : request == KVM_RUN ? EFAULT : ENOMEM;
		return -1;
	}
	return __real_ioctl(fd, request, argument);
}

long __real_syscall(long number, ...);
/* Takes six arguments, given or not. */
long __wrap_syscall(long number, ...);
__attribute__((no_sanitize("address"))) long __wrap_syscall(long number, ...)
{
	enum mode mode = JUDGE("syscall", number);
	long words[6];
	va_list list;

	va_start(list, number);
	for (size_t i = 0; i < 6; i++)
		words[i] = va_arg(list, long);
	va_end(list);
	if (mode) {
		errno = EPERM;
		return -1;
	}
	return __real_syscall(number, words[0], words[1], words[2], words[3], words[4], words[5]);
}

int __wrap_asprintf(char **text, const char *format, ...) __attribute__((format(printf, 2, 3)));
int __wrap_asprintf(char **text, const char *format, ...)
{
	va_list list;
	int length;

	if (JUDGE("asprintf", 0)) {
		errno = ENOMEM;
		return -1;
	}
	va_start(list, format);
	length = vasprintf(text, format, list);
	va_end(list);
	return length;
}

#ifdef __USE_FORTIFY_LEVEL
#if __USE_FORTIFY_LEVEL > 0
/* What some of these calls are where the compiler cannot see the buffer's size. */
WRAP_TRANSFER(__read_chk, "read", EIO, size, (int fd, void *buffer, size_t size, size_t room),
	      (fd, buffer, size, room))
WRAP(int, __poll_chk, "poll", -1, ENOMEM, 0,
     (struct pollfd * fds, nfds_t size, int timeout, size_t room), (fds, size, timeout, room))
WRAP(int, __open64_2, "open", -1, EMFILE, 0, (const char *path, int flags), (path, flags))

int __wrap___asprintf_chk(char **text, int level, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
int __wrap___asprintf_chk(char **text, int level, const char *format, ...)
{
	va_list list;
	int length;

	(void)level;
	if (JUDGE("asprintf", 0)) {
		errno = ENOMEM;
		return -1;
	}
	va_start(list, format);
	length = vasprintf(text, format, list);
	va_end(list);
	return length;
}
#endif
#endif

/* The descriptor in a request that is to fail becomes -1; one that is to be short, shorter. */
static void spoil(struct io_uring_sqe *sqe, enum mode mode)
{
	if (mode == MODE_SHORT && (sqe->opcode == IORING_OP_READ || sqe->opcode == IORING_OP_WRITE))
		sqe->len = sqe->len > 1 ? sqe->len / 2 : sqe->len;
	else if (mode == MODE_SHORT &&
		 (sqe->opcode == IORING_OP_READV || sqe->opcode == IORING_OP_WRITEV))
		sqe->len = sqe->len > 1 ? sqe->len / 2 : sqe->len;
	else if (mode) {
		sqe->fd = -1;
		sqe->flags &= ~IOSQE_FIXED_FILE;
	}
}

int __real_io_uring_submit(struct io_uring *ring);
int __wrap_io_uring_submit(struct io_uring *ring);
int __wrap_io_uring_submit(struct io_uring *ring)
{
	enum mode mode = JUDGE("io_uring_submit", 0);

	if (mode)
		return mode == MODE_EINTR ? -EINTR : -EAGAIN;
	for (unsigned at = ring->sq.sqe_head; at != ring->sq.sqe_tail; at++) {
		struct io_uring_sqe *sqe = &ring->sq.sqes[at & ring->sq.ring_mask];

		spoil(sqe, JUDGE("io_uring request", sqe->opcode));
	}
	return __real_io_uring_submit(ring);
}

int __real___io_uring_get_cqe(struct io_uring *ring, struct io_uring_cqe **cqe, unsigned submit,
			      unsigned wait, sigset_t *mask);
int __wrap___io_uring_get_cqe(struct io_uring *ring, struct io_uring_cqe **cqe, unsigned submit,
			      unsigned wait, sigset_t *mask);
int __wrap___io_uring_get_cqe(struct io_uring *ring, struct io_uring_cqe **cqe, unsigned submit,
			      unsigned wait, sigset_t *mask)
{
	if (JUDGE("io_uring_wait", wait))
		return -EINTR;
	return __real___io_uring_get_cqe(ring, cqe, submit, wait, mask);
}
