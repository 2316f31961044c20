#include "swap/session.h"

#include <errno.h>
#include <stdlib.h>

void session_destroy(struct session *session)
{
	if (!session)
		return;
	/* First no more faults, then nobody who would answer them. */
	if (session->monitor)
		pager_unregister(session->pager);
	monitor_stop(session->monitor);
	pager_destroy(session->pager);
	store_destroy(session->store);
	uffd_close(session->uffd);
	free(session);
}

int session_create(const struct guest_memory *memory, const struct store_config *config,
		   const struct monitor_callbacks *callbacks, void (*dropped)(void *opaque),
		   struct session **out, struct error *err)
{
	const struct pager_region whole = {0, guest_memory_size(memory)};
	struct session *session = calloc(1, sizeof(*session));
	int result;

	if (!session)
		return error_errno(err, ENOMEM, "swap");
	result = store_create(config, &session->store, err);
	if (result)
		goto destroy;
	result = uffd_open(UFFD_REQUIRED, &session->uffd, err);
	if (result)
		goto destroy;
	result = pager_create(memory, session->uffd, session->store, &whole, 1, &session->pager);
	if (result) {
		error_errno(err, -result, "swap: creating the page map");
		goto destroy;
	}
	pager_on_drop(session->pager, dropped, callbacks->opaque);
	result = monitor_start(session->pager, session->uffd, callbacks, &session->monitor);
	if (result) {
		error_errno(err, -result, "swap: starting the monitor threads");
		goto destroy;
	}
	result = pager_register(session->pager);
	if (result) {
		error_errno(err, -result, "swap: registering guest memory with userfaultfd");
		goto destroy;
	}
	*out = session;
	return 0;

destroy:
	session_destroy(session);
	return result;
}
