/*
 * What the user asked for: one VM as `ebb run`'s options describe it (vmm/options/options.h), for
 * the parts of the program that make it. Plain data: nothing here allocates, opens or checks.
 *
 * The strings belong to whoever filled the struct in, the command line or `given`, and outlive it:
 * a copy is as good as the original. Main thread only. Sizes are in bytes, ports in host byte
 * order.
 */
#ifndef EBB_VMM_MACHINE_CONFIG_H
#define EBB_VMM_MACHINE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "swap/swap.h"
#include "vmm/machine/swap_policy.h"

#define VM_CPUS_MAX     64
#define VM_DISKS_MAX    14
#define VM_NETS_MAX     8
#define VM_FORWARDS_MAX 32
#define VM_MEMORY_MIN   (16ull << 20)
#define VM_NAME_MAX     64
#define VM_DISK_ID_MAX  20 /* virtio-blk's serial string, virtio 1.2, section 5.2.6 */

struct options_given;

/* The host side of a serial port or console. */
enum serial_kind {
	SERIAL_STDIO,
	SERIAL_NONE,
	SERIAL_FILE,
	SERIAL_PTY,
	SERIAL_UNIX,
};

struct disk_config {
	const char *path;
	bool read_only;
	bool is_raw; /* the user says so: whatever it begins with */
	char id[VM_DISK_ID_MAX + 1];
};

enum net_kind {
	NET_TAP,
	NET_USER, /* through passt */
};

/* A port of the host that leads to a port of the guest. */
struct net_forward {
	bool udp; /* else TCP */
	uint16_t host_port;
	uint16_t guest_port;
};

struct net_config {
	enum net_kind kind;
	const char *interface;                        /* NET_TAP: its name */
	uint8_t mac[6];                               /* all zero: one is made up */
	struct net_forward forwards[VM_FORWARDS_MAX]; /* NET_USER */
	size_t forward_count;
};

enum metrics_kind {
	METRICS_NONE,
	METRICS_TCP,
	METRICS_UNIX,
};

#define METRICS_ADDRESS_MAX 46 /* a numeric IPv6 address with its NUL */

struct metrics_config {
	enum metrics_kind kind;
	const char *path;                  /* METRICS_UNIX */
	char address[METRICS_ADDRESS_MAX]; /* METRICS_TCP: numeric */
	uint16_t port;                     /* 0: the kernel chooses */
	bool is_public;                    /* the address may be one that others reach */
};

struct vm_config {
	char name[VM_NAME_MAX + 1];
	const char *kernel;
	const char *initrd;  /* NULL: none */
	const char *cmdline; /* NULL: the default */
	uint64_t memory_bytes;
	unsigned cpus;
	struct disk_config disks[VM_DISKS_MAX];
	size_t disk_count;
	struct net_config nets[VM_NETS_MAX];
	size_t net_count;
	enum serial_kind serial;
	const char *serial_path;  /* SERIAL_FILE, SERIAL_UNIX */
	enum serial_kind console; /* the virtio console; SERIAL_NONE: the machine has none */
	const char *console_path; /* as serial_path */
	const char *vsock_path;   /* NULL: no vsock */
	uint32_t vsock_cid;
	const char *control_path; /* NULL: the default place */
	struct swap_config swap;
	struct swap_policy_config swap_auto;
	struct metrics_config metrics;
	bool sandbox_off;
	const char *dump_dtb;    /* NULL: no */
	const char *config_path; /* --config; NULL: none */
	bool print_config;
	struct options_given *given; /* as text, by file and command line; see options.h */
};

#endif
