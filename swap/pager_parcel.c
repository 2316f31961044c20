#include "swap/pager_parcel.h"

#include <errno.h>

#include "swap/buffer.h"

int parcels_create(struct pager_context *context)
{
	if (!context->parcels)
		context->parcels = buffer_map(PARCELS * sizeof(struct parcel));
	return context->parcels ? 0 : -ENOMEM;
}

int parcels_create_with_writer(struct pager_context *context)
{
	int result = parcels_create(context);

	if (result || context->writer)
		return result;
	return store_writer_create(context->pager->store, &context->writer);
}

void pager_destroy_parcels(struct pager_context *context)
{
	buffer_unmap(context->parcels, PARCELS * sizeof(struct parcel));
	context->parcels = NULL;
}

void parcels_put_back(struct pager_context *context, size_t page)
{
	struct pager *pager = context->pager;
	struct page_entry entry;

	page_map_lock(pager->map, page);
	entry = page_map_get(pager->map, page);
	if (entry.state == PAGE_WRITING) {
		entry.state = PAGE_STAGED;
		page_map_set(pager->map, page, entry);
	}
	page_map_unlock(pager->map, page);
}
