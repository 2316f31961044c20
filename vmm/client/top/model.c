#include "vmm/client/top/model.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/clock.h"
#include "vmm/client/render_internal.h"

static const char *const kind_names[TOP_KINDS] = {
	[TOP_RESIDENT] = "resident", [TOP_STAGED] = "staged",   [TOP_POOL] = "pool",
	[TOP_DISK] = "disk",         [TOP_BALLOON] = "balloon", [TOP_ZERO] = "zero",
};

const char *top_kind_name(enum top_kind kind)
{
	return kind_names[kind];
}

static uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* What is not printable ASCII becomes '?': it is another process's text, and goes to a terminal. */
static void copy_text(char *to, size_t size, const char *from)
{
	size_t length = 0;

	for (; *from && length + 1 < size; from++) {
		to[length] = *from;
		if (*from < ' ' || *from > '~')
			to[length] = '?';
		length++;
	}
	to[length] = '\0';
}

/* ---- machines ---- */

struct top_vm *top_model_find(const struct top_model *model, const char *name)
{
	for (size_t i = 0; i < model->count; i++) {
		if (!strcmp(model->vms[i]->name, name))
			return model->vms[i];
	}
	return NULL;
}

struct top_vm *top_model_add(struct top_model *model, const char *name)
{
	struct top_vm *vm = top_model_find(model, name);
	struct top_vm **vms;
	size_t place = 0;

	if (vm)
		return vm;
	vms = realloc(model->vms, (model->count + 1) * sizeof(struct top_vm *));
	if (!vms)
		return NULL;
	model->vms = vms;
	vm = calloc(1, sizeof(*vm));
	if (!vm)
		return NULL;
	copy_text(vm->name, sizeof(vm->name), name);
	while (place < model->count && strcmp(vms[place]->name, name) < 0)
		place++;
	memmove(&vms[place + 1], &vms[place], (model->count - place) * sizeof(struct top_vm *));
	vms[place] = vm;
	model->count++;
	return vm;
}

void top_model_remove(struct top_model *model, struct top_vm *vm)
{
	for (size_t i = 0; i < model->count; i++) {
		if (model->vms[i] != vm)
			continue;
		model->count--;
		memmove(&model->vms[i], &model->vms[i + 1],
			(model->count - i) * sizeof(struct top_vm *));
		free(vm);
		return;
	}
}

void top_model_clear(struct top_model *model)
{
	for (size_t i = 0; i < model->count; i++)
		free(model->vms[i]);
	free(model->vms);
	top_map_clear(&model->map);
	*model = (struct top_model){0};
}

void top_model_say(struct top_model *model, uint64_t now_ns, bool is_error, const char *fmt, ...)
{
	char text[sizeof(model->message)];
	va_list arguments;

	va_start(arguments, fmt);
	vsnprintf(text, sizeof(text), fmt, arguments);
	va_end(arguments);
	copy_text(model->message, sizeof(model->message), text);
	model->message_is_error = is_error;
	model->message_ns = now_ns;
}

/* ---- answers ---- */

static uint64_t per(uint64_t whole, uint64_t part, uint64_t of)
{
	return of ? (uint64_t)((double)whole * ((double)min_u64(part, of) / (double)of)) : 0;
}

/* Takes at most what is left of the memory. */
static void give(struct top_vm *vm, enum top_kind kind, uint64_t bytes, uint64_t *left)
{
	bytes = min_u64(bytes, *left);
	vm->kinds[kind] += bytes;
	*left -= bytes;
}

static uint64_t pages_bytes(const json_t *swap, const char *key)
{
	uint64_t bytes;

	if (__builtin_mul_overflow(render_number(swap, key), render_number(swap, "page_size_bytes"),
				   &bytes))
		return UINT64_MAX;
	return bytes;
}

/* Swapped pages are divided as the entries of the store are. */
static void take_swapped(struct top_vm *vm, const json_t *swap, uint64_t *left)
{
	const json_t *store = json_object_get(swap, "store");
	uint64_t entries = render_number(store, "entries");
	uint64_t swapped = min_u64(pages_bytes(swap, "pages_swapped"), *left);
	uint64_t pool = per(swapped, render_number(store, "entries_pool"), entries);
	uint64_t filled = per(swapped, render_number(store, "entries_filled"), entries);

	filled = min_u64(filled, swapped - pool);
	give(vm, TOP_POOL, pool, left);
	give(vm, TOP_DISK, swapped - pool - filled, left);
	give(vm, TOP_ZERO, filled, left);
}

static void take_memory(struct top_vm *vm, const json_t *status, const json_t *swap)
{
	uint64_t allocated = render_number(status, "memory_allocated_bytes");
	uint64_t balloon = render_number(json_object_get(status, "balloon"), "actual_bytes");
	uint64_t left;

	vm->memory_bytes = left = render_number(status, "memory_bytes");
	memset(vm->kinds, 0, sizeof(vm->kinds));
	if (!strcmp(vm->swap_state, "disabled") || !swap) {
		give(vm, TOP_RESIDENT, allocated, &left);
	} else {
		give(vm, TOP_RESIDENT, pages_bytes(swap, "pages_resident"), &left);
		give(vm, TOP_STAGED, pages_bytes(swap, "pages_staged"), &left);
		give(vm, TOP_STAGED, pages_bytes(swap, "pages_writing"), &left);
		take_swapped(vm, swap, &left);
	}
	/* What the balloon took is among the empty pages, as far as it was not touched again. */
	give(vm, TOP_BALLOON, balloon, &left);
	vm->kinds[TOP_ZERO] += left;
	if (__builtin_add_overflow(allocated,
				   render_number(json_object_get(swap, "store"), "pool_bytes"),
				   &vm->host_bytes))
		vm->host_bytes = UINT64_MAX;
	vm->disk_bytes = render_number(swap, "store_disk_bytes");
}

static void take_faults(struct top_vm *vm, const json_t *swap, uint64_t elapsed_ns)
{
	uint64_t came = 0;

	vm->p99_ns = 0;
	for (int kind = 0; kind < SWAP_FAULT_KINDS; kind++) {
		static const char *const names[SWAP_FAULT_KINDS] = {"zero", "staged", "pool",
								    "file"};
		const json_t *latency =
			json_object_get(json_object_get(swap, "latency"), names[kind]);
		struct top_latency now = {
			.count = render_number(latency, "count"),
			.p50_ns = render_number(latency, "p50_ns"),
			.p99_ns = render_number(latency, "p99_ns"),
		};

		if (now.count > vm->latency[kind].count && elapsed_ns) {
			came += now.count - vm->latency[kind].count;
			if (now.p99_ns > vm->p99_ns)
				vm->p99_ns = now.p99_ns;
		}
		vm->latency[kind] = now;
	}
	vm->faults_per_s =
		elapsed_ns ? (double)came * (double)NS_PER_SEC / (double)elapsed_ns : 0.0;
}

static void take_report(struct top_operation *operation, const json_t *report)
{
	copy_text(operation->command, sizeof(operation->command), render_text(report, "command"));
	operation->pages_done = render_number(report, "pages_done");
	operation->pages_total = render_number(report, "pages_total");
	operation->duration_ns = render_number(report, "duration_ns");
	operation->rate = render_number(report, "rate_bytes_per_s");
}

/* A running operation's report; of one that ended, what was last seen of it stays. */
static void take_operation(struct top_vm *vm, const json_t *swap)
{
	const json_t *running = json_object_get(swap, "operation");
	const json_t *entry;
	const char *key;

	vm->operation.running = json_is_object(running);
	if (vm->operation.running) {
		take_report(&vm->operation, running);
		return;
	}
	json_object_foreach((json_t *)json_object_get(swap, "last"), key, entry)
	{
		if (strcmp(render_text(entry, "command"), vm->operation.command) != 0)
			continue;
		take_report(&vm->operation, entry);
		vm->operation.failed = json_is_true(json_object_get(entry, "cancelled")) ||
				       json_integer_value(json_object_get(entry, "result"));
	}
}

void top_vm_take(struct top_vm *vm, const json_t *status, const json_t *swap, uint64_t now_ns)
{
	uint64_t elapsed = vm->sampled_ns && now_ns > vm->sampled_ns ? now_ns - vm->sampled_ns : 0;
	uint64_t cpu = render_number(status, "cpu_time_ns");
	uint64_t vcpus = render_number(status, "vcpus");

	vm->health = TOP_ALIVE;
	vm->pid = render_number(status, "pid");
	copy_text(vm->state, sizeof(vm->state), render_text(status, "state"));
	copy_text(vm->reason, sizeof(vm->reason), render_text(status, "reason"));
	copy_text(vm->swap_state, sizeof(vm->swap_state), render_text(swap, "state"));
	vm->swap_available = json_is_true(json_object_get(swap, "available"));
	vm->vcpus = vcpus < 65536 ? (unsigned)vcpus : 0;
	vm->uptime_ns = render_number(status, "uptime_ns");
	take_memory(vm, status, swap);
	take_faults(vm, swap, elapsed);
	take_operation(vm, swap);
	/* A reset machine counts anew. */
	vm->cpu_share = elapsed && cpu > vm->cpu_time_ns
				? (double)(cpu - vm->cpu_time_ns) / (double)elapsed
				: 0.0;
	vm->cpu_time_ns = cpu;
	vm->sampled_ns = now_ns;
}

uint64_t top_operation_left_ns(const struct top_operation *operation)
{
	double left;

	if (!operation->pages_done || operation->pages_done > operation->pages_total)
		return UINT64_MAX;
	left = (double)operation->duration_ns *
	       (double)(operation->pages_total - operation->pages_done) /
	       (double)operation->pages_done;
	return left < 1e18 ? (uint64_t)left : UINT64_MAX;
}

size_t top_model_total(const struct top_model *model, struct top_vm *total)
{
	size_t count = 0;

	*total = (struct top_vm){.health = TOP_ALIVE};
	for (size_t i = 0; i < model->count; i++) {
		const struct top_vm *vm = model->vms[i];

		if (vm->health == TOP_GONE)
			continue;
		count++;
		for (int kind = 0; kind < TOP_KINDS; kind++)
			total->kinds[kind] += vm->kinds[kind];
		total->memory_bytes += vm->memory_bytes;
		total->host_bytes += vm->host_bytes;
		total->disk_bytes += vm->disk_bytes;
		total->vcpus += vm->vcpus;
		total->cpu_share += vm->cpu_share;
		total->faults_per_s += vm->faults_per_s;
		if (vm->p99_ns > total->p99_ns)
			total->p99_ns = vm->p99_ns;
	}
	return count;
}
