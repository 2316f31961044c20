/*
 * bench_engine --size SIZE --swap-dir DIR --parts idle,second,faults,busy …
 *
 * Swaps a guest without KVM out and in through swap/swap.h, threads being the guest, and prints one
 * JSON object with what it measured. Times are of the calls as a user waits for them, bytes are of
 * guest memory unless they are said to be written. An operation that fails is recorded with its
 * reason, memory that is not whole ends the program with status 1.
 */
#include "tests/bench/engine.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/checked.h"
#include "vmm/base/clock.h"

static void set_integer(json_t *object, const char *key, uint64_t value)
{
	json_object_set_new(object, key, json_integer((json_int_t)value));
}

static int start_and_wait(struct engine *engine, enum swap_operation operation, struct error *err)
{
	int result = swap_start(engine->swap, operation, err);

	return result ? result : swap_wait(engine->swap, err);
}

static void add_status(const struct swap_status *before, const struct swap_status *after,
		       json_t *object)
{
	const struct swap_operation_report *report = &after->current;

	set_integer(object, "pages_moved", report->pages_moved);
	set_integer(object, "zap_ns", report->zap_ns);
	set_integer(object, "stored", after->counters.stored - before->counters.stored);
	set_integer(object, "trimmed_zero",
		    after->counters.trimmed_zero - before->counters.trimmed_zero);
	set_integer(object, "trimmed_clean",
		    after->counters.trimmed_clean - before->counters.trimmed_clean);
	set_integer(object, "written_bytes", report->written_bytes);
	set_integer(object, "read_bytes", report->read_bytes);
	set_integer(object, "store_file_bytes", after->store.file_bytes);
	set_integer(object, "store_pool_bytes", after->store.pool_bytes);
	set_integer(object, "store_live_bytes", after->store.live_bytes);
	set_integer(object, "store_ram_bytes", after->store.ram_bytes);
	set_integer(object, "tables_bytes", after->tables_bytes);
}

int engine_operate(struct engine *engine, enum swap_operation operation, json_t *parent,
		   const char *key)
{
	struct error err = {.text = ""};
	struct swap_status before, after;
	uint64_t allocated = 0, left = 0;
	json_t *object = json_object();
	struct reserve reserve;
	struct moment start;
	int result;

	json_object_set_new(parent, key, object);
	if (operation == SWAP_OP_IN)
		reserve_start(&reserve, engine->options->size, guest_memory_fd(engine->memory));
	swap_get_status(engine->swap, &before);
	guest_memory_allocated(engine->memory, &allocated);
	moment_take(&start);
	result = start_and_wait(engine, operation, &err);
	moment_since(&start, object);
	if (operation == SWAP_OP_IN)
		reserve_stop(&reserve);
	guest_memory_allocated(engine->memory, &left);
	swap_get_status(engine->swap, &after);
	add_status(&before, &after, object);
	json_object_set_new(object, "freed_bytes",
			    json_integer((json_int_t)allocated - (json_int_t)left));
	if (result)
		json_object_set_new(object, "error",
				    json_string(*err.text ? err.text : strerror(-result)));
	return result;
}

static void say_wrong(const char *when, uint64_t wrong, uint64_t first)
{
	if (wrong)
		die("memory is not whole after %s: %llu pages differ, the first is %llu", when,
		    (unsigned long long)wrong, (unsigned long long)first);
}

void engine_check_mapped(struct engine *engine, const char *when)
{
	uint64_t first, wrong = ledger_check(&engine->ledger, engine->guest, &first);

	say_wrong(when, wrong, first);
}

void engine_check_present(struct engine *engine, const char *when)
{
	uint64_t first;
	uint64_t wrong =
		ledger_check_file(&engine->ledger, guest_memory_fd(engine->memory), &first);

	say_wrong(when, wrong, first);
}

void engine_make_cold(struct engine *engine)
{
	bool cold = drop_caches(engine->options->directory);

	json_object_set_new(engine->result, "cold", json_boolean(cold));
}

static void fatal(void *opaque, const char *reason)
{
	(void)opaque;
	/* Threads sleep in guest memory and cannot be joined. */
	fprintf(stderr, "the engine gave up: %s\n", reason);
	_exit(1);
}

static int configure(const struct bench_options *options, struct swap_config *config)
{
	static const char *const names[] = {[STORE_COMPRESS_LZ4] = "lz4",
					    [STORE_COMPRESS_ZSTD] = "zstd",
					    [STORE_COMPRESS_NONE] = "none"};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(names); i++)
		if (!strcmp(options->compress, names[i]))
			break;
	if (i == ARRAY_SIZE(names))
		return -EINVAL;
	config->store = (struct store_config){
		.path = options->no_directory ? NULL : options->directory,
		.pool_bytes = options->pool,
		.compression = (enum store_compression)i,
		.level = options->level,
		.encrypt = options->encrypt,
	};
	return 0;
}

static void create_engine(const struct bench_options *options, struct engine *engine)
{
	const struct guest_memory_region layout = {.base = 0, .size = options->size};
	uint64_t start;
	struct error err;

	engine->options = options;
	engine->pages = options->size / GUEST_PAGE_SIZE;
	engine->result = json_object();
	if (contents_create(&options->contents, &engine->contents, &err) ||
	    guest_memory_create(&layout, 1, &engine->memory, &err))
		die("%s", err.text);
	engine->guest = guest_memory_guest_view(engine->memory);
	warm_up(options->size);
	start = clock_monotonic_ns();
	contents_fill(engine->contents, engine->guest, engine->pages);
	if (ledger_create(engine->guest, engine->pages, &engine->ledger))
		die("no memory");
	set_integer(engine->result, "fill_ns", clock_monotonic_ns() - start);
}

static int create_swap(struct engine *engine)
{
	const struct swap_callbacks callbacks = {.fatal = fatal};
	struct swap_config config;
	struct error err;
	int result = configure(engine->options, &config);

	if (result)
		die("no such compression: %s", engine->options->compress);
	result = swap_create(engine->memory, &config, &callbacks, &engine->swap, &err);
	if (result)
		json_object_set_new(engine->result, "error", json_string(err.text));
	return result;
}

static void destroy_engine(struct engine *engine)
{
	swap_destroy(engine->swap);
	guest_memory_destroy(engine->memory);
	ledger_destroy(&engine->ledger);
	contents_destroy(engine->contents);
}

static const struct {
	const char *name;
	int (*run)(struct engine *engine, json_t *result);
} cycles[] = {
	{"idle", cycle_idle},
	{"faults", cycle_faults},
	{"busy", cycle_busy},
};

static void add_latencies(const struct engine *engine)
{
	json_t *all = json_object();
	struct swap_status status;

	swap_get_status(engine->swap, &status);
	for (int kind = 0; kind < SWAP_FAULT_KINDS; kind++) {
		const __auto_type latency = &status.latency[kind];

		json_object_set_new(all, swap_fault_kind_name((enum swap_fault_kind)kind),
				    json_pack("{s:I,s:I,s:I,s:I}", "count",
					      (json_int_t)latency->count, "p50_ns",
					      (json_int_t)latency->p50_ns, "p99_ns",
					      (json_int_t)latency->p99_ns, "max_ns",
					      (json_int_t)latency->max_ns));
	}
	json_object_set_new(engine->result, "own_latencies", all);
	json_object_set_new(engine->result, "uring", json_boolean(status.store.uring));
	json_object_set_new(engine->result, "direct", json_boolean(status.store.direct));
}

int main(int argc, char **argv)
{
	struct bench_options options;
	struct engine engine = {0};
	int result;

	options_parse(argc, argv, &options);
	create_engine(&options, &engine);
	result = create_swap(&engine);
	for (size_t i = 0; !result && i < ARRAY_SIZE(cycles); i++) {
		json_t *object;

		if (!options_want(&options, cycles[i].name))
			continue;
		object = json_object();
		json_object_set_new(engine.result, cycles[i].name, object);
		result = cycles[i].run(&engine, object);
	}
	if (engine.swap)
		add_latencies(&engine);
	destroy_engine(&engine);
	print_json(engine.result);
	return 0;
}
