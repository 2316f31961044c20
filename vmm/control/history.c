#include "vmm/control/history.h"

#include <assert.h>
#include <stdlib.h>

#define PAGE_SIZE 4096u

struct history {
	uint64_t interval_ns;
	uint64_t start_ns;
	uint64_t last_ns;
	uint64_t last_cpu_ns;
	struct latency_snapshot last[SWAP_FAULT_KINDS];
	size_t count;
	struct history_sample samples[HISTORY_SAMPLES];
	uint64_t marks_added;
	struct history_mark marks[HISTORY_MARKS]; /* a ring */
};

static_assert(sizeof(struct history) <= HISTORY_BYTES_MAX, "a VM's history has its bounds");
static_assert(HISTORY_SAMPLES % 2 == 0, "samples are merged in pairs");

static void remember(struct history *history, const struct history_input *input)
{
	history->last_ns = input->now_ns;
	history->last_cpu_ns = input->cpu_ns;
	for (int i = 0; i < SWAP_FAULT_KINDS; i++)
		history->last[i] = input->latency[i];
}

struct history *history_create(const struct history_input *first)
{
	struct history *history = calloc(1, sizeof(*history));

	if (!history)
		return NULL;
	history->interval_ns = HISTORY_INTERVAL_NS;
	history->start_ns = first->now_ns;
	remember(history, first);
	return history;
}

void history_destroy(struct history *history)
{
	free(history);
}

static uint64_t span_of(const struct history_sample *sample)
{
	return sample->end_ns - sample->start_ns;
}

/* The mean of each state but the last, which is what is left: the states keep their sum. */
static void merge_pages(struct history_sample *to, const struct history_sample *from)
{
	double a = (double)span_of(to), b = (double)span_of(from);
	uint64_t total = 0, rest;

	for (int i = 0; i < MEMORY_STATES; i++)
		total += from->pages[i];
	rest = total;
	for (int i = 0; i < MEMORY_STATES; i++) {
		double mean = (a * to->pages[i] + b * from->pages[i]) / (a + b);

		if (i == MEMORY_STATES - 1 || mean > (double)rest)
			mean = (double)rest;
		to->pages[i] = (uint32_t)mean;
		rest -= to->pages[i];
	}
}

static void merge_faults(struct history_faults *to, const struct history_faults *from)
{
	double sum = (double)to->count + (double)from->count;

	if (!from->count)
		return;
	to->p50_ns = (float)((to->count * (double)to->p50_ns + from->count * (double)from->p50_ns) /
			     sum);
	if (from->p99_ns > to->p99_ns)
		to->p99_ns = from->p99_ns;
	to->count = sum < UINT32_MAX ? (uint32_t)sum : UINT32_MAX;
}

/* @from follows upon @to. */
static void merge(struct history_sample *to, const struct history_sample *from)
{
	merge_pages(to, from);
	for (int i = 0; i < SWAP_FAULT_KINDS; i++)
		merge_faults(&to->faults[i], &from->faults[i]);
	to->cpu_ns += from->cpu_ns;
	to->end_ns = from->end_ns;
}

static void merge_pairs(struct history *history)
{
	for (size_t i = 0; i < HISTORY_SAMPLES / 2; i++) {
		struct history_sample merged = history->samples[2 * i];

		merge(&merged, &history->samples[2 * i + 1]);
		history->samples[i] = merged;
	}
	history->count = HISTORY_SAMPLES / 2;
	history->interval_ns *= 2;
}

static void append(struct history *history, const struct history_sample *sample)
{
	struct history_sample *newest =
		history->count ? &history->samples[history->count - 1] : NULL;

	/* Three quarters: a timer may come early as well as late. */
	if (newest && span_of(newest) < history->interval_ns / 4 * 3) {
		merge(newest, sample);
		return;
	}
	if (history->count == HISTORY_SAMPLES)
		merge_pairs(history);
	history->samples[history->count++] = *sample;
}

static struct history_faults count_faults(const struct latency_snapshot *before,
					  const struct latency_snapshot *after)
{
	struct latency_snapshot between;

	latency_between(before, after, &between);
	return (struct history_faults){
		.count = between.count < UINT32_MAX ? (uint32_t)between.count : UINT32_MAX,
		.p50_ns = (float)latency_percentile(&between, 500),
		.p99_ns = (float)latency_percentile(&between, 990),
	};
}

void history_add(struct history *history, const struct history_input *input)
{
	struct history_sample sample = {.start_ns = history->last_ns, .end_ns = input->now_ns};

	if (input->now_ns <= history->last_ns)
		return;
	sample.cpu_ns = input->cpu_ns >= history->last_cpu_ns ? input->cpu_ns - history->last_cpu_ns
							      : input->cpu_ns;
	for (int i = 0; i < MEMORY_STATES; i++)
		sample.pages[i] = (uint32_t)(input->bytes[i] / PAGE_SIZE);
	for (int i = 0; i < SWAP_FAULT_KINDS; i++)
		sample.faults[i] = count_faults(&history->last[i], &input->latency[i]);
	remember(history, input);
	append(history, &sample);
}

void history_add_mark(struct history *history, const struct history_mark *mark)
{
	history->marks[history->marks_added++ % HISTORY_MARKS] = *mark;
}

uint64_t history_interval_ns(const struct history *history)
{
	return history->interval_ns;
}

uint64_t history_start_ns(const struct history *history)
{
	return history->start_ns;
}

size_t history_sample_count(const struct history *history)
{
	return history->count;
}

const struct history_sample *history_sample(const struct history *history, size_t index)
{
	return &history->samples[index];
}

uint64_t history_marks_dropped(const struct history *history)
{
	return history->marks_added > HISTORY_MARKS ? history->marks_added - HISTORY_MARKS : 0;
}

size_t history_mark_count(const struct history *history)
{
	return (size_t)(history->marks_added - history_marks_dropped(history));
}

const struct history_mark *history_mark(const struct history *history, size_t index)
{
	return &history->marks[(history_marks_dropped(history) + index) % HISTORY_MARKS];
}
