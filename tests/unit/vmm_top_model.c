/* What `ebb top` makes of answers: memory by kind, rates, maps; and of absurd ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "vmm/base/clock.h"
#include "vmm/base/size.h"
#include "vmm/client/top/model.h"

static struct top_vm vm;

static int setup(void **state)
{
	(void)state;
	memset(&vm, 0, sizeof(vm));
	return 0;
}

/* Single quotes stand for double ones. */
static json_t *json(const char *text)
{
	char copy[2048];
	json_t *value;

	assert_true(strlen(text) < sizeof(copy));
	strcpy(copy, text);
	for (char *at = copy; *at; at++)
		*at = *at == '\'' ? '"' : *at;
	value = json_loads(copy, 0, NULL);
	assert_non_null(value);
	return value;
}

static void take(const char *status, const char *swap, uint64_t now_ns)
{
	json_t *first = json(status);
	json_t *second = json(swap);

	top_vm_take(&vm, first, second, now_ns);
	json_decref(first);
	json_decref(second);
}

static uint64_t sum_of_kinds(void)
{
	uint64_t sum = 0;

	for (int kind = 0; kind < TOP_KINDS; kind++)
		sum += vm.kinds[kind];
	return sum;
}

static void while_swap_is_disabled_memory_is_what_the_host_holds(void **state)
{
	(void)state;
	take("{'state':'running','vcpus':2,'memory_bytes':1048576,'memory_allocated_bytes':262144,"
	     "'balloon':{'actual_bytes':65536}}",
	     "{'state':'disabled','page_size_bytes':4096}", 1);
	assert_int_equal(vm.kinds[TOP_RESIDENT], 262144);
	assert_int_equal(vm.kinds[TOP_BALLOON], 65536);
	assert_int_equal(sum_of_kinds(), 1048576);
	assert_int_equal(vm.host_bytes, 262144);
}

static void swapped_pages_are_divided_as_the_store_is(void **state)
{
	(void)state;
	take("{'state':'running','memory_bytes':4096000,'memory_allocated_bytes':819200}",
	     "{'state':'out','page_size_bytes':4096,'pages_resident':100,'pages_staged':90,"
	     "'pages_writing':10,'pages_swapped':400,'pages_empty':400,'store':{'entries':200,"
	     "'entries_filled':50,'entries_pool':100,'pool_bytes':1000}}",
	     1);
	assert_int_equal(vm.kinds[TOP_RESIDENT], 100 * 4096);
	assert_int_equal(vm.kinds[TOP_STAGED], 100 * 4096);
	assert_int_equal(vm.kinds[TOP_POOL], 200 * 4096);
	assert_int_equal(vm.kinds[TOP_DISK], 100 * 4096);
	assert_int_equal(vm.kinds[TOP_ZERO], 500 * 4096);
	assert_int_equal(vm.host_bytes, 819200 + 1000);
}

static void absurd_answers_never_exceed_the_memory(void **state)
{
	static const char *const swaps[] = {
		"{'state':'out','page_size_bytes':9223372036854775807,'pages_resident':"
		"9223372036854775807,'pages_swapped':9223372036854775807}",
		"{'state':'out','page_size_bytes':4096,'pages_swapped':100,'store':{'entries':1,"
		"'entries_filled':9223372036854775807,'entries_pool':9223372036854775807}}",
		"{'state':7,'page_size_bytes':-1,'pages_resident':'many','latency':[],'store':4}",
		"[]",
		"{}",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(swaps) / sizeof(swaps[0]); i++) {
		take("{'memory_bytes':1048576,'memory_allocated_bytes':9223372036854775807,"
		     "'balloon':{'actual_bytes':9223372036854775807},'vcpus':99999999999}",
		     swaps[i], i + 1);
		assert_int_equal(sum_of_kinds(), 1048576);
	}
}

static void text_of_a_machine_is_made_printable(void **state)
{
	(void)state;
	take("{'state':'\\u001b[31mrunning with a name that is too long for it','reason':"
	     "'caf\\u00e9'}",
	     "{}", 1);
	assert_string_equal(vm.state, "?[31mrunning with a name that i");
	assert_string_equal(vm.reason, "caf??");
}

static void rates_are_of_the_time_between_two_answers(void **state)
{
	(void)state;
	take("{'cpu_time_ns':1000000000}",
	     "{'latency':{'zero':{'count':5,'p99_ns':90000},'file':{'count':10,'p99_ns':700}}}",
	     5 * NS_PER_SEC);
	assert_true(vm.faults_per_s == 0.0);
	assert_true(vm.cpu_share == 0.0);
	take("{'cpu_time_ns':2000000000}",
	     "{'latency':{'zero':{'count':5,'p99_ns':90000},'file':{'count':110,'p99_ns':800}}}",
	     7 * NS_PER_SEC);
	assert_float_equal(vm.faults_per_s, 50.0, 1e-6);
	assert_float_equal(vm.cpu_share, 0.5, 1e-6);
	/* Of the kind that came, not of the one that did not. */
	assert_int_equal(vm.p99_ns, 800);
}

static void counters_that_begin_anew_make_no_rate(void **state)
{
	(void)state;
	take("{'cpu_time_ns':5000000000}", "{'latency':{'file':{'count':110}}}", NS_PER_SEC);
	take("{'cpu_time_ns':1000}", "{'latency':{'file':{'count':3}}}", 2 * NS_PER_SEC);
	assert_true(vm.faults_per_s == 0.0);
	assert_true(vm.cpu_share == 0.0);
}

static void the_operation_is_followed_to_its_end(void **state)
{
	(void)state;
	take("{}",
	     "{'operation':{'command':'swap out','pages_done':25,'pages_total':100,"
	     "'duration_ns':1000000000}}",
	     1);
	assert_true(vm.operation.running);
	assert_int_equal(top_operation_left_ns(&vm.operation), 3 * NS_PER_SEC);
	take("{}",
	     "{'operation':null,'last':{'in':null,'out':{'command':'swap out','cancelled':true,"
	     "'pages_done':30,'pages_total':100}}}",
	     2);
	assert_false(vm.operation.running);
	assert_true(vm.operation.failed);
	assert_int_equal(vm.operation.pages_done, 30);
}

static void machines_are_kept_by_name_and_totalled(void **state)
{
	struct top_model model = {0};
	struct top_vm total;

	(void)state;
	assert_non_null(top_model_add(&model, "web"));
	assert_non_null(top_model_add(&model, "db"));
	assert_non_null(top_model_add(&model, "old"));
	assert_ptr_equal(top_model_add(&model, "db"), top_model_find(&model, "db"));
	assert_int_equal(model.count, 3);
	assert_string_equal(model.vms[0]->name, "db");
	assert_string_equal(model.vms[2]->name, "web");
	for (size_t i = 0; i < 3; i++) {
		model.vms[i]->health = strcmp(model.vms[i]->name, "old") ? TOP_ALIVE : TOP_GONE;
		model.vms[i]->memory_bytes = MIB;
		model.vms[i]->kinds[TOP_DISK] = MIB;
		model.vms[i]->p99_ns = i + 1;
	}

	assert_int_equal(top_model_total(&model, &total), 2);
	assert_int_equal(total.memory_bytes, 2 * MIB);
	assert_int_equal(total.kinds[TOP_DISK], 2 * MIB);
	assert_int_equal(total.p99_ns, 3);

	top_model_remove(&model, top_model_find(&model, "old"));
	assert_int_equal(model.count, 2);
	assert_null(top_model_find(&model, "old"));
	top_model_clear(&model);
}

static void a_map_is_taken_with_its_regions(void **state)
{
	struct top_map map = {0};
	json_t *answer = json(
		"{'page_size_bytes':4096,'pages_per_cell':4,'regions':[{'gpa':0,'bytes':32768,"
		"'first_page':0},{'gpa':4294967296,'bytes':16384,'first_page':8}],"
		"'resident':[4,1,0],'staged':[0,1,0],'disk':[0,2,0],'empty':[0,0,3],'filled':[0,0,1]}");

	(void)state;
	assert_true(top_map_take(&map, "web", answer));
	assert_int_equal(map.count, 3);
	assert_int_equal(top_map_gpa(&map, 1), 16384);
	assert_int_equal(top_map_gpa(&map, 2), 4294967296ull);
	assert_int_equal(top_map_dominant(&map.cells[0]), TOP_RESIDENT);
	assert_int_equal(top_map_dominant(&map.cells[1]), TOP_DISK);
	assert_int_equal(top_map_dominant(&map.cells[2]), TOP_ZERO);
	assert_int_equal(map.cells[2].pages[TOP_ZERO], 4);
	top_map_clear(&map);
	json_decref(answer);
}

static void of_equal_kinds_the_nearest_to_the_guest_is_shown(void **state)
{
	const struct top_map_cell cell = {.pages = {[TOP_STAGED] = 2, [TOP_ZERO] = 2}};

	(void)state;
	assert_int_equal(top_map_dominant(&cell), TOP_STAGED);
}

static void a_map_that_makes_no_sense_is_refused(void **state)
{
	static const char *const answers[] = {
		"{}",
		"{'page_size_bytes':0,'pages_per_cell':1,'resident':[1]}",
		"{'page_size_bytes':4096,'pages_per_cell':0,'resident':[1]}",
		"{'page_size_bytes':4096,'pages_per_cell':1,'resident':[]}",
		"{'page_size_bytes':4096,'pages_per_cell':9223372036854775807,'resident':[1]}",
		"{'page_size_bytes':4096,'pages_per_cell':1,'resident':{}}",
	};
	struct top_map map = {0};
	json_t *odd = json("{'page_size_bytes':4096,'pages_per_cell':2,'resident':[5,-1,'x'],"
			   "'regions':[1,{}],'disk':[1,1,1,1,1]}");

	(void)state;
	for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
		json_t *answer = json(answers[i]);

		assert_false(top_map_take(&map, "web", answer));
		json_decref(answer);
	}
	assert_null(map.cells);
	assert_true(top_map_take(&map, "web", odd));
	assert_int_equal(map.count, 3);
	assert_int_equal(map.cells[0].pages[TOP_RESIDENT], 0);
	assert_int_equal(map.cells[2].pages[TOP_DISK], 1);
	top_map_clear(&map);
	json_decref(odd);
}

static void the_model_is_told_as_json(void **state)
{
	struct top_model model = {0};
	struct top_vm *web = top_model_add(&model, "web");
	json_t *object;
	const json_t *machine;

	(void)state;
	assert_non_null(web);
	web->health = TOP_ALIVE;
	web->memory_bytes = web->kinds[TOP_POOL] = 4096;
	object = top_model_json(&model);
	machine = json_array_get(json_object_get(object, "machines"), 0);
	assert_string_equal(json_string_value(json_object_get(machine, "name")), "web");
	assert_int_equal(json_integer_value(
				 json_object_get(json_object_get(machine, "memory"), "pool_bytes")),
			 4096);
	assert_int_equal(json_integer_value(
				 json_object_get(json_object_get(object, "total"), "memory_bytes")),
			 4096);
	assert_true(json_is_null(json_object_get(object, "map")));
	json_decref(object);
	top_model_clear(&model);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(while_swap_is_disabled_memory_is_what_the_host_holds, setup),
		cmocka_unit_test_setup(swapped_pages_are_divided_as_the_store_is, setup),
		cmocka_unit_test_setup(absurd_answers_never_exceed_the_memory, setup),
		cmocka_unit_test_setup(text_of_a_machine_is_made_printable, setup),
		cmocka_unit_test_setup(rates_are_of_the_time_between_two_answers, setup),
		cmocka_unit_test_setup(counters_that_begin_anew_make_no_rate, setup),
		cmocka_unit_test_setup(the_operation_is_followed_to_its_end, setup),
		cmocka_unit_test(machines_are_kept_by_name_and_totalled),
		cmocka_unit_test(a_map_is_taken_with_its_regions),
		cmocka_unit_test(of_equal_kinds_the_nearest_to_the_guest_is_shown),
		cmocka_unit_test(a_map_that_makes_no_sense_is_refused),
		cmocka_unit_test(the_model_is_told_as_json),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
