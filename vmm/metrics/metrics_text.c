#include "vmm/metrics/metrics_text.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "vmm/base/checked.h"
#include "vmm/base/clock.h"
#include "vmm/control/commands.h"
#include "vmm/machine/memory_states.h"

/* Upper bounds of the fault histogram: one for each power of two, from 1 us to 17 s. */
#define BOUND_FIRST 10u
#define BOUND_LAST  34u

/* One sample of a family that has one label. */
struct labelled {
	const char *label;
	double value;
};

static double seconds(uint64_t ns)
{
	return (double)ns / (double)NS_PER_SEC;
}

static void head(FILE *out, const char *name, const char *type, const char *help)
{
	fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* 17 digits: what is read back is what was written; whole numbers stay whole. */
static void value(FILE *out, double number)
{
	fprintf(out, " %.17g\n", number);
}

static void one(FILE *out, const char *name, const char *type, const char *help, double number)
{
	head(out, name, type, help);
	fputs(name, out);
	value(out, number);
}

static void many(FILE *out, const char *name, const char *type, const char *help, const char *key,
		 const struct labelled *samples, size_t count)
{
	head(out, name, type, help);
	for (size_t i = 0; i < count; i++) {
		fprintf(out, "%s{%s=\"%s\"}", name, key, samples[i].label);
		value(out, samples[i].value);
	}
}

/* The only label that a user chose. */
static void write_escaped(FILE *out, const char *text)
{
	for (; *text; text++) {
		if (*text == '\n')
			fputs("\\n", out);
		else if (*text == '"' || *text == '\\')
			fprintf(out, "\\%c", *text);
		else
			fputc(*text, out);
	}
}

static void information(FILE *out, const char *name, const char *help, const char *key,
			const char *text)
{
	head(out, name, "gauge", help);
	fprintf(out, "%s{%s=\"", name, key);
	write_escaped(out, text);
	fputs("\"} 1\n", out);
}

static void write_machine(FILE *out, const struct metrics_input *input)
{
	const struct machine_status *machine = &input->machine;
	struct labelled states[MACHINE_STOPPED + 1];

	information(out, "ebb_build_info", "The version of ebb.", "version", input->version);
	information(out, "ebb_guest_info", "The machine's name.", "name", input->name);
	for (int i = 0; i <= MACHINE_STOPPED; i++)
		states[i] = (struct labelled){machine_state_name((enum machine_state)i),
					      machine->state == (enum machine_state)i};
	many(out, "ebb_guest_state", "gauge", "1 for the machine's state, 0 for the others.",
	     "state", states, ARRAY_SIZE(states));
	one(out, "ebb_guest_uptime_seconds", "gauge",
	    "Time since the guest was started or last reset.", seconds(machine->uptime_ns));
	if (machine->first_run_ns)
		one(out, "ebb_start_duration_seconds", "gauge",
		    "Time from the start of the process to the guest's first instruction.",
		    seconds(machine->first_run_ns));
	one(out, "ebb_resets_total", "counter", "Resets of the guest.", (double)machine->resets);
	one(out, "ebb_vcpus", "gauge", "Virtual CPUs.", (double)machine->vcpus);
	one(out, "ebb_vcpu_seconds_total", "counter",
	    "CPU time of all virtual CPUs; a reset of the guest begins it anew.",
	    seconds(input->cpu_ns));
}

static void write_memory(FILE *out, const struct metrics_input *input)
{
	struct labelled states[MEMORY_STATES];
	uint64_t bytes[MEMORY_STATES];

	memory_states_divide(&input->machine, &input->swap, bytes);
	for (int i = 0; i < MEMORY_STATES; i++)
		states[i] = (struct labelled){memory_state_name((enum memory_state)i),
					      (double)bytes[i]};
	one(out, "ebb_guest_memory_bytes", "gauge", "Memory that the guest was given.",
	    (double)input->machine.memory_bytes);
	many(out, "ebb_memory_bytes", "gauge",
	     "Guest memory by where it is; the states sum up to ebb_guest_memory_bytes.", "state",
	     states, MEMORY_STATES);
	one(out, "ebb_memory_host_bytes", "gauge",
	    "RAM of the host that guest memory takes, without the pool of compressed pages.",
	    (double)input->machine.memory_allocated_bytes);
}

static void write_balloon_statistics(FILE *out, const struct machine_balloon_status *balloon)
{
	const struct labelled memory[] = {
		{"total", (double)balloon->stat_total},
		{"free", (double)balloon->stat_free},
		{"available", (double)balloon->stat_available},
		{"disk_caches", (double)balloon->stat_disk_caches},
	};
	const struct labelled faults[] = {
		{"major", (double)balloon->stat_major_faults},
		{"minor", (double)balloon->stat_minor_faults},
	};
	const struct labelled swapped[] = {
		{"in", (double)balloon->stat_swap_in},
		{"out", (double)balloon->stat_swap_out},
	};

	many(out, "ebb_balloon_guest_memory_bytes", "gauge", "Memory as the guest itself sees it.",
	     "kind", memory, ARRAY_SIZE(memory));
	many(out, "ebb_balloon_guest_faults_total", "counter",
	     "Page faults that the guest counted.", "kind", faults, ARRAY_SIZE(faults));
	many(out, "ebb_balloon_guest_swap_bytes_total", "counter",
	     "Memory that the guest swapped by itself.", "direction", swapped, ARRAY_SIZE(swapped));
}

static void write_balloon(FILE *out, const struct machine_balloon_status *balloon)
{
	if (!balloon->present)
		return;
	one(out, "ebb_balloon_bytes", "gauge", "Memory that the balloon has taken from the guest.",
	    (double)balloon->actual_bytes);
	one(out, "ebb_balloon_target_bytes", "gauge", "Memory that the balloon is to take.",
	    (double)balloon->target_bytes);
	one(out, "ebb_balloon_reported_bytes_total", "counter",
	    "Memory that the guest has reported as free.", (double)balloon->reported_bytes);
	if (balloon->stats_valid)
		write_balloon_statistics(out, balloon);
}

static void write_swap_state(FILE *out, const struct swap_status *swap)
{
	const struct swap_operation_report *current = &swap->current;
	struct labelled states[SWAP_RESIDENT + 1];
	struct labelled running[SWAP_OP_COUNT - 1];

	for (int i = 0; i <= SWAP_RESIDENT; i++)
		states[i] = (struct labelled){swap_state_name((enum swap_state)i),
					      swap->state == (enum swap_state)i};
	for (int i = SWAP_OP_NONE + 1; i < SWAP_OP_COUNT; i++)
		running[i - 1] = (struct labelled){
			commands_operation_key((enum swap_operation)i),
			current->running && current->operation == (enum swap_operation)i};
	one(out, "ebb_swap_available", "gauge", "1 if there is a place to swap to.",
	    swap->available);
	many(out, "ebb_swap_state", "gauge", "1 for the state of swap, 0 for the others.", "state",
	     states, ARRAY_SIZE(states));
	many(out, "ebb_swap_operation_running", "gauge", "1 for the operation that runs now.",
	     "operation", running, ARRAY_SIZE(running));
	one(out, "ebb_swap_operation_progress_ratio", "gauge",
	    "How far the running operation is, 0 to 1; 0 without one.",
	    current->running && current->pages_total
		    ? (double)current->pages_done / (double)current->pages_total
		    : 0.0);
}

static void write_store(FILE *out, const struct swap_status *swap)
{
	const struct store_usage *store = &swap->store;
	uint64_t taking = store->entries_filled + store->entries_pool;
	const struct labelled bytes[] = {
		{"pool", (double)store->pool_bytes},
		{"disk", (double)store->file_bytes},
	};
	const struct labelled pages[] = {
		{"pool", (double)store->entries_pool},
		{"disk", store->entries > taking ? (double)(store->entries - taking) : 0.0},
		{"none", (double)store->entries_filled},
	};
	const struct labelled overhead[] = {
		{"page_tables", (double)swap->tables_bytes},
		{"store", (double)store->ram_bytes},
	};

	many(out, "ebb_swap_store_bytes", "gauge", "Space that the store takes.", "place", bytes,
	     ARRAY_SIZE(bytes));
	many(out, "ebb_swap_store_pages", "gauge",
	     "Pages in the store, with copies of pages that are back in memory; "
	     "those of one repeated value take no place.",
	     "place", pages, ARRAY_SIZE(pages));
	one(out, "ebb_swap_store_live_bytes", "gauge", "Compressed size of the pages in the store.",
	    (double)store->live_bytes);
	many(out, "ebb_swap_overhead_bytes", "gauge", "RAM that swapping itself takes.", "kind",
	     overhead, ARRAY_SIZE(overhead));
	one(out, "ebb_swap_working_set_pages", "gauge",
	    "Pages that `swap in --working-set` would bring back.",
	    (double)swap->working_set_pages);
}

static void write_traffic(FILE *out, const struct swap_status *swap)
{
	const struct swap_counters *counters = &swap->counters;
	const struct labelled traffic[] = {
		{"write", (double)swap->traffic.written},
		{"read", (double)swap->traffic.read},
		{"evict", (double)swap->traffic.evicted},
	};
	const struct labelled pages[] = {
		{"staged", (double)counters->staged},
		{"stored", (double)counters->stored},
		{"swapped_in", (double)counters->swapped_in},
		{"read_ahead", (double)counters->faults_ahead},
		{"trimmed_zero", (double)counters->trimmed_zero},
		{"trimmed_clean", (double)counters->trimmed_clean},
		{"removed", (double)counters->removed},
		{"write_cancelled", (double)counters->writes_cancelled},
		{"compacted", (double)counters->compacted},
	};

	many(out, "ebb_swap_disk_bytes_total", "counter",
	     "Bytes moved between memory and the store's file; evict is part of write.",
	     "direction", traffic, ARRAY_SIZE(traffic));
	many(out, "ebb_swap_pages_total", "counter", "Pages by what was done with them.", "action",
	     pages, ARRAY_SIZE(pages));
}

static void write_fault_histogram(FILE *out, const char *kind,
				  const struct latency_snapshot *latency)
{
	static const char name[] = "ebb_swap_fault_duration_seconds";

	for (unsigned exponent = BOUND_FIRST; exponent <= BOUND_LAST; exponent++)
		/* Bounds belong to their bucket, and durations are whole nanoseconds. */
		fprintf(out, "%s_bucket{kind=\"%s\",le=\"%.12g\"} %" PRIu64 "\n", name, kind,
			seconds((1ull << exponent) - 1), latency_below(latency, exponent));
	fprintf(out, "%s_bucket{kind=\"%s\",le=\"+Inf\"} %" PRIu64 "\n", name, kind,
		latency->count);
	fprintf(out, "%s_sum{kind=\"%s\"}", name, kind);
	value(out, seconds(latency->sum_ns));
	fprintf(out, "%s_count{kind=\"%s\"} %" PRIu64 "\n", name, kind, latency->count);
}

static void write_faults(FILE *out, const struct metrics_input *input)
{
	struct labelled faults[SWAP_FAULT_KINDS];

	for (int i = 0; i < SWAP_FAULT_KINDS; i++)
		faults[i] = (struct labelled){swap_fault_kind_name((enum swap_fault_kind)i),
					      (double)input->latency[i].count};
	many(out, "ebb_swap_faults_total", "counter",
	     "Faults on guest memory by what answered them.", "kind", faults, SWAP_FAULT_KINDS);
	one(out, "ebb_swap_faults_redundant_total", "counter",
	    "Faults whose page another fault had filled already.",
	    (double)input->swap.counters.faults_redundant);
	one(out, "ebb_swap_faults_retried_total", "counter",
	    "Faults that had to wait for a discard.", (double)input->swap.counters.faults_retried);
	head(out, "ebb_swap_fault_duration_seconds", "histogram",
	     "Time from reading a fault to having answered it.");
	for (int i = 0; i < SWAP_FAULT_KINDS; i++)
		write_fault_histogram(out, faults[i].label, &input->latency[i]);
}

static void write_operations(FILE *out, const struct swap_status *swap)
{
	static const char count_name[] = "ebb_swap_operations_total";
	static const char time_name[] = "ebb_swap_operation_duration_seconds";

	head(out, count_name, "counter", "Swap operations that ended, by how they did.");
	for (int i = SWAP_OP_NONE + 1; i < SWAP_OP_COUNT; i++) {
		const struct swap_operation_totals *totals = &swap->totals[i];
		const char *key = commands_operation_key((enum swap_operation)i);

		fprintf(out, "%s{operation=\"%s\",result=\"done\"} %" PRIu64 "\n", count_name, key,
			totals->done);
		fprintf(out, "%s{operation=\"%s\",result=\"failed\"} %" PRIu64 "\n", count_name,
			key, totals->failed);
		fprintf(out, "%s{operation=\"%s\",result=\"cancelled\"} %" PRIu64 "\n", count_name,
			key, totals->cancelled);
	}
	head(out, time_name, "summary", "How long swap operations took.");
	for (int i = SWAP_OP_NONE + 1; i < SWAP_OP_COUNT; i++) {
		const struct swap_operation_totals *totals = &swap->totals[i];
		const char *key = commands_operation_key((enum swap_operation)i);

		fprintf(out, "%s_sum{operation=\"%s\"}", time_name, key);
		value(out, seconds(totals->duration_ns));
		fprintf(out, "%s_count{operation=\"%s\"} %" PRIu64 "\n", time_name, key,
			totals->done + totals->failed + totals->cancelled);
	}
}

static void write_process(FILE *out, const struct metrics_process *process)
{
	if (!process->valid)
		return;
	one(out, "process_cpu_seconds_total", "counter",
	    "CPU time of the process, the guest's included.", process->cpu_seconds);
	one(out, "process_start_time_seconds", "gauge",
	    "When the process started, in seconds since the epoch.", process->start_seconds);
	one(out, "process_virtual_memory_bytes", "gauge", "Address space of the process.",
	    (double)process->virtual_bytes);
	one(out, "process_resident_memory_bytes", "gauge",
	    "Resident memory of the process, mapped guest memory included.",
	    (double)process->resident_bytes);
	one(out, "process_open_fds", "gauge", "Open file descriptors.", (double)process->open_fds);
	one(out, "process_max_fds", "gauge", "Most file descriptors that may be open.",
	    (double)process->max_fds);
	one(out, "process_threads", "gauge", "Threads of the process.", (double)process->threads);
}

int metrics_text_write(const struct metrics_input *input, char **text, size_t *length)
{
	char *buffer = NULL;
	FILE *out = open_memstream(&buffer, length);
	int failed;

	if (!out)
		return -ENOMEM;
	write_machine(out, input);
	write_memory(out, input);
	write_balloon(out, &input->machine.balloon);
	write_swap_state(out, &input->swap);
	write_store(out, &input->swap);
	write_traffic(out, &input->swap);
	write_faults(out, input);
	write_operations(out, &input->swap);
	write_process(out, &input->process);
	failed = ferror(out);
	if (fclose(out) || failed) {
		free(buffer);
		return -ENOMEM;
	}
	*text = buffer;
	return 0;
}
