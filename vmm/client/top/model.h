/*
 * What `ebb top` knows of the running machines: their last answers, and what follows from two of
 * them (rates). Plain data and arithmetic: no I/O, no clock of its own, one thread.
 *
 * Answers come from other processes, of any version: members that are missing or absurd count as
 * zero, and the parts of a guest's memory never add up to more than the whole.
 */
#ifndef EBB_VMM_CLIENT_TOP_MODEL_H
#define EBB_VMM_CLIENT_TOP_MODEL_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "memory/guest_memory.h"
#include "swap/swap.h"
#include "vmm/machine/config.h"

/* What guest memory is divided into on the screen. */
enum top_kind {
	TOP_RESIDENT,
	TOP_STAGED,
	TOP_POOL,
	TOP_DISK,
	TOP_BALLOON, /* given back by the guest */
	TOP_ZERO,    /* takes no space anywhere: never touched, or stored as one value */
	TOP_KINDS,
};

enum top_health {
	TOP_NEW,    /* has not answered yet */
	TOP_ALIVE,  /* has answered the last question */
	TOP_SILENT, /* listens, and does not answer */
	TOP_GONE,   /* ended; shown for a while */
};

#define TOP_TEXT 32u

/* At most so many cells of a map. */
#define TOP_MAP_CELLS_MAX 16384u

struct top_latency {
	uint64_t count;
	uint64_t p50_ns;
	uint64_t p99_ns;
};

struct top_operation {
	bool running;
	bool failed;            /* the last one, if none is running */
	char command[TOP_TEXT]; /* "swap out"; "": none yet */
	uint64_t pages_done;
	uint64_t pages_total;
	uint64_t duration_ns;
	uint64_t rate; /* of the pages moved, bytes per second */
};

struct top_vm {
	char name[VM_NAME_MAX + 1];
	enum top_health health;
	uint64_t gone_ns; /* when it was found to have ended */
	uint64_t pid;
	char state[TOP_TEXT];
	char swap_state[TOP_TEXT];
	bool swap_available;
	char reason[128]; /* why it is paused, printable ASCII */
	unsigned vcpus;
	uint64_t uptime_ns;
	uint64_t memory_bytes;
	uint64_t kinds[TOP_KINDS]; /* bytes; they sum up to memory_bytes */
	uint64_t host_bytes;       /* RAM of the host: resident, staged and the pool */
	uint64_t disk_bytes;       /* of the store's file */
	struct top_latency latency[SWAP_FAULT_KINDS]; /* since the VM's start */
	struct top_operation operation;
	/* Between the last two answers: */
	double cpu_share; /* of one CPU */
	double faults_per_s;
	uint64_t p99_ns; /* of the slowest kind of fault that came meanwhile; 0: none came */
	/* The last answer's, for the next rates. */
	uint64_t sampled_ns; /* 0: none yet */
	uint64_t cpu_time_ns;
};

struct top_map_cell {
	uint64_t pages[TOP_KINDS];
};

struct top_map {
	char name[VM_NAME_MAX + 1]; /* "": there is no map */
	uint64_t page_size;
	uint64_t pages_per_cell;
	size_t region_count;
	struct guest_memory_region regions[GUEST_MEMORY_REGIONS_MAX];
	size_t count;
	struct top_map_cell *cells;
};

struct top_model {
	struct top_vm **vms; /* by name */
	size_t count;
	struct top_map map; /* of the machine that is looked at */
	char message[192];  /* printable ASCII; "": none */
	bool message_is_error;
	uint64_t message_ns;
};

void top_model_clear(struct top_model *model);

struct top_vm *top_model_find(const struct top_model *model, const char *name);

/* The machine of that name, a new one if there was none. NULL: out of memory. */
struct top_vm *top_model_add(struct top_model *model, const char *name);
void top_model_remove(struct top_model *model, struct top_vm *vm);

/* Foreign text is made printable. */
void top_model_say(struct top_model *model, uint64_t now_ns, bool is_error, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/* The answers to `status` and `swap status` that came at @now_ns. */
void top_vm_take(struct top_vm *vm, const json_t *status, const json_t *swap, uint64_t now_ns);

/* The answer to `memory-map` of machine @name. False: it makes no sense, the old map stays. */
bool top_map_take(struct top_map *map, const char *name, const json_t *answer);
void top_map_clear(struct top_map *map);

/* The guest-physical address of the first page of @cell. */
uint64_t top_map_gpa(const struct top_map *map, size_t cell);

/* The kind that most pages are of; of equals, the one that is nearest to the guest. */
enum top_kind top_map_dominant(const struct top_map_cell *cell);

/* Sums over all machines but those that have ended, as if they were one; p99_ns is the greatest.
 * Returns how many they are. */
size_t top_model_total(const struct top_model *model, struct top_vm *total);

/* How long the operation will go on, by how long it took so far; UINT64_MAX: unknown. */
uint64_t top_operation_left_ns(const struct top_operation *operation);

const char *top_kind_name(enum top_kind kind);

/* One JSON object for `ebb top --json`; NULL: out of memory. */
json_t *top_model_json(const struct top_model *model);

#endif
