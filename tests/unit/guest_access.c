/* Access through a mapping where the bitmap allows it, through fallbacks elsewhere. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "memory/access.h"

#define PAGE  4096u
#define PAGES 4u

struct backing {
	uint8_t mapped[PAGES * PAGE];    /* what the fast path reaches */
	uint8_t elsewhere[PAGES * PAGE]; /* what the fallbacks reach */
	_Atomic uint64_t bitmap;
	enum guest_access_fault answer;
	int faults, fallbacks;
	struct guest_access access;
};

static enum guest_access_fault page_fault(void *opaque, uint64_t address, bool write)
{
	struct backing *backing = opaque;

	(void)write;
	backing->faults++;
	if (backing->answer == GUEST_ACCESS_RETRY)
		backing->bitmap |= 1ull << (address / PAGE);
	return backing->answer;
}

static int read_fallback(void *opaque, uint64_t address, void *buffer, size_t length)
{
	struct backing *backing = opaque;

	assert_true(address / PAGE == (address + length - 1) / PAGE);
	backing->fallbacks++;
	memcpy(buffer, backing->elsewhere + address, length);
	return 0;
}

static int write_fallback(void *opaque, uint64_t address, const void *buffer, size_t length)
{
	struct backing *backing = opaque;

	backing->fallbacks++;
	memcpy(backing->elsewhere + address, buffer, length);
	return 0;
}

static const struct guest_access_ops ops = {
	.page_fault = page_fault,
	.read_fallback = read_fallback,
	.write_fallback = write_fallback,
};

static int create(void **state)
{
	static struct backing backing;

	memset(&backing, 0, sizeof(backing));
	backing.answer = GUEST_ACCESS_FALLBACK;
	backing.bitmap = 0x5; /* pages 0 and 2 */
	backing.access = (struct guest_access){
		.ops = &ops,
		.opaque = &backing,
		.mapping = backing.mapped,
		.bitmap = &backing.bitmap,
		.max_address = PAGES * PAGE,
		.expose_va = true,
	};
	*state = &backing;
	return 0;
}

static void allowed_pages_go_through_the_mapping_and_others_fall_back(void **state)
{
	struct backing *backing = *state;
	uint8_t buffer[3 * PAGE];
	memset(backing->mapped, 1, sizeof(backing->mapped));
	memset(backing->elsewhere, 2, sizeof(backing->elsewhere));

	assert_int_equal(guest_access_read(&backing->access, 100, buffer, sizeof(buffer)), 0);

	assert_int_equal(buffer[0], 1);
	assert_int_equal(buffer[PAGE - 100], 2);
	assert_int_equal(buffer[2 * PAGE - 100], 1);
	assert_int_equal(buffer[3 * PAGE - 100], 2);
	assert_int_equal(backing->fallbacks, 2);
}

static void retry_looks_at_the_bitmap_again(void **state)
{
	struct backing *backing = *state;
	uint8_t value = 9;
	backing->answer = GUEST_ACCESS_RETRY;

	assert_int_equal(guest_access_write(&backing->access, PAGE, &value, 1), 0);

	assert_int_equal(backing->mapped[PAGE], 9);
	assert_int_equal(backing->faults, 1);
	assert_int_equal(backing->fallbacks, 0);
}

static void a_refused_page_fails(void **state)
{
	struct backing *backing = *state;
	uint8_t value;
	backing->answer = GUEST_ACCESS_FAIL;

	assert_int_equal(guest_access_read(&backing->access, PAGE, &value, 1), -EFAULT);
	assert_int_equal(guest_access_read(&backing->access, 0, &value, 1), 0);
}

static void a_missing_fallback_fails(void **state)
{
	struct backing *backing = *state;
	uint64_t expected = 0;

	assert_int_equal(guest_access_fill(&backing->access, PAGE, 1, 1), -EFAULT);
	assert_int_equal(guest_access_compare_exchange(&backing->access, PAGE, 8, &expected, 1),
			 -EFAULT);
}

static void accesses_outside_are_refused(void **state)
{
	struct backing *backing = *state;
	uint8_t buffer[2];

	assert_int_equal(guest_access_read(&backing->access, PAGES * PAGE - 1, buffer, 2), -EFAULT);
	assert_int_equal(guest_access_read(&backing->access, UINT64_MAX, buffer, 2), -EFAULT);
	assert_int_equal(guest_access_read(&backing->access, PAGES * PAGE, buffer, 0), 0);
}

static void a_subrange_is_relative_and_confined(void **state)
{
	struct backing *backing = *state;
	struct guest_access part;
	uint8_t buffer[2];
	backing->mapped[2 * PAGE] = 42;

	assert_int_equal(guest_access_subrange(&backing->access, 2 * PAGE, PAGE, &part), 0);
	assert_int_equal(guest_access_read(&part, 0, buffer, 1), 0);
	assert_int_equal(buffer[0], 42);
	assert_int_equal(guest_access_read(&part, PAGE - 1, buffer, 2), -EFAULT);
	assert_int_equal(guest_access_subrange(&part, 1, PAGE, &part), -EFAULT);
}

static void compare_exchange_through_the_mapping(void **state)
{
	struct backing *backing = *state;
	uint64_t expected = 0;

	assert_int_equal(guest_access_compare_exchange(&backing->access, 8, 4, &expected, 7), 0);
	assert_int_equal(guest_access_compare_exchange(&backing->access, 8, 4, &expected, 8),
			 -EAGAIN);
	assert_int_equal(expected, 7);
	assert_int_equal(guest_access_compare_exchange(&backing->access, 9, 4, &expected, 8),
			 -EINVAL);
}

static void pointers_are_given_only_where_everything_is_mapped(void **state)
{
	struct backing *backing = *state;
	void *host;

	assert_int_equal(guest_access_va(&backing->access, 0, 8, &host), -ENOTSUP);
	backing->access.bitmap = NULL;
	assert_int_equal(guest_access_va(&backing->access, 8, 8, &host), 0);
	assert_ptr_equal(host, backing->mapped + 8);
	backing->access.expose_va = false;
	assert_int_equal(guest_access_va(&backing->access, 8, 8, &host), -ENOTSUP);
}

#define with_backing(test) cmocka_unit_test_setup(test, create)

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_backing(allowed_pages_go_through_the_mapping_and_others_fall_back),
		with_backing(retry_looks_at_the_bitmap_again),
		with_backing(a_refused_page_fails),
		with_backing(a_missing_fallback_fails),
		with_backing(accesses_outside_are_refused),
		with_backing(a_subrange_is_relative_and_confined),
		with_backing(compare_exchange_through_the_mapping),
		with_backing(pointers_are_given_only_where_everything_is_mapped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
