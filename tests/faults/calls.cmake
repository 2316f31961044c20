# The fallible calls that inject.c stands in front of, by the names that the linker sees.
set(fault_calls
	# memory
	malloc calloc realloc aligned_alloc strdup strndup asprintf open_memstream
	mmap64 mprotect madvise mlock mincore memfd_create
	# descriptors
	open64 fopen64 fdopen opendir fcntl64 eventfd signalfd timerfd_create timerfd_settime
	epoll_create1 epoll_ctl epoll_wait poll ppoll pipe2
	socket socketpair bind listen connect accept4 setsockopt getsockopt getsockname
	# files
	ftruncate64 fallocate64 fstat64 stat64 lstat64 lseek64 fdatasync sync_file_range posix_fadvise64
	flock mkdir rename unlink chmod fchmod
	# bytes
	read write pread64 pwrite64 preadv64 pwritev64v2 readv writev recv send recvmsg sendmsg getrandom
	# the kernel's further doors: KVM, userfaultfd, io_uring
	ioctl syscall
	io_uring_queue_init io_uring_submit io_uring_register_eventfd io_uring_get_probe_ring
	__io_uring_get_cqe
	# threads
	pthread_create pthread_setaffinity_np pthread_setschedparam sched_getaffinity getrlimit64
	# what the sandbox is made of
	setrlimit64 unshare mount prctl sigaction fork waitpid
	# some of them by the names that FORTIFY gives them
	__read_chk __poll_chk __open64_2 __asprintf_chk
	# libraries
	EVP_CIPHER_CTX_new EVP_CIPHER_fetch EVP_EncryptUpdate EVP_MD_CTX_new
	ZSTD_createCCtx ZSTD_createDCtx)
