#include "swap/read_ahead.h"

#include <string.h>

#define NONE SIZE_MAX

void read_ahead_init(struct read_ahead *ahead)
{
	memset(ahead, 0, sizeof(*ahead));
	pthread_mutex_init(&ahead->lock, NULL);
	for (size_t i = 0; i < READ_AHEAD_STREAMS; i++)
		ahead->streams[i].next = NONE;
}

void read_ahead_destroy(struct read_ahead *ahead)
{
	pthread_mutex_destroy(&ahead->lock);
}

/* The stream that expects @page, else the one that was used longest ago. */
static size_t find(const struct read_ahead *ahead, size_t page)
{
	size_t oldest = 0;

	for (size_t i = 0; i < READ_AHEAD_STREAMS; i++) {
		if (ahead->streams[i].next == page)
			return i;
		if (ahead->streams[i].used < ahead->streams[oldest].used)
			oldest = i;
	}
	return oldest;
}

size_t read_ahead_length(struct read_ahead *ahead, size_t page)
{
	size_t length = 1, i;

	pthread_mutex_lock(&ahead->lock);
	i = find(ahead, page);
	if (ahead->streams[i].next == page) {
		length = ahead->streams[i].length * 2;
		if (length > READ_AHEAD_MAX)
			length = READ_AHEAD_MAX;
	}
	pthread_mutex_unlock(&ahead->lock);
	return length;
}

void read_ahead_done(struct read_ahead *ahead, size_t page, size_t count)
{
	size_t i;

	pthread_mutex_lock(&ahead->lock);
	i = find(ahead, page);
	/* A stretch cut short by the end of what could be read in one go does not slow the stream. */
	if (ahead->streams[i].next != page || ahead->streams[i].length < count)
		ahead->streams[i].length = count;
	ahead->streams[i].next = page + count;
	ahead->streams[i].used = ++ahead->clock;
	pthread_mutex_unlock(&ahead->lock);
}

void read_ahead_skip(struct read_ahead *ahead, size_t page)
{
	size_t i;

	pthread_mutex_lock(&ahead->lock);
	i = find(ahead, page);
	if (ahead->streams[i].next == page)
		ahead->streams[i].next++;
	pthread_mutex_unlock(&ahead->lock);
}
