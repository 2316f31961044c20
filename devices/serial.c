#include "devices/serial.h"

#include <errno.h>
#include <linux/serial_reg.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* What may interrupt, highest priority first. */
enum source {
	SOURCE_LINE = 1 << 0,
	SOURCE_DATA = 1 << 1,
	SOURCE_TRANSMITTER = 1 << 2,
	SOURCE_MODEM = 1 << 3,
};

#define IER_MASK     0x0fu
#define MCR_MASK     0x1fu
#define IIR_FIFOS    0xc0u /* both bits: a 16550A with its FIFOs enabled */
#define IIR_TIMEOUT  0x0cu
#define LCR_RESET    0x00u
#define DIVISOR_9600 12u

/* The line that is always there: carrier, data set ready, clear to send. */
#define MSR_CONNECTED (UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS)

struct fifo {
	uint8_t bytes[SERIAL_FIFO_SIZE];
	unsigned start;
	unsigned count;
};

struct serial {
	struct serial_host host;
	int irq_fd;
	pthread_mutex_t lock; /* guards the rest */
	struct fifo input;
	struct fifo output; /* what the host has not taken yet */
	uint8_t ier, fcr, lcr, mcr, scratch;
	uint16_t divisor;
	uint8_t modem_lines;   /* upper half of MSR */
	uint8_t modem_changes; /* lower half of MSR */
	bool overrun;
	bool transmitter_emptied; /* since the guest last looked or wrote */
	unsigned pending;         /* sources at the last look */
	bool input_refused;       /* the host waits for room */
	bool flushing;            /* a thread is in host.write(), without the lock */
	bool flush_again;         /* and shall try once more when it returns */
};

static bool fifo_push(struct fifo *fifo, unsigned capacity, uint8_t byte)
{
	if (fifo->count >= capacity)
		return false;
	fifo->bytes[(fifo->start + fifo->count++) % SERIAL_FIFO_SIZE] = byte;
	return true;
}

static void fifo_drop(struct fifo *fifo, unsigned count)
{
	fifo->start = (fifo->start + count) % SERIAL_FIFO_SIZE;
	fifo->count -= count;
}

static unsigned fifo_peek(const struct fifo *fifo, uint8_t *bytes)
{
	for (unsigned i = 0; i < fifo->count; i++)
		bytes[i] = fifo->bytes[(fifo->start + i) % SERIAL_FIFO_SIZE];
	return fifo->count;
}

static bool fifos_enabled(const struct serial *serial)
{
	return serial->fcr & UART_FCR_ENABLE_FIFO;
}

static unsigned input_capacity(const struct serial *serial)
{
	return fifos_enabled(serial) ? SERIAL_FIFO_SIZE : 1;
}

static bool in_loopback(const struct serial *serial)
{
	return serial->mcr & UART_MCR_LOOP;
}

static unsigned pending_sources(const struct serial *serial)
{
	unsigned pending = 0;

	if ((serial->ier & UART_IER_RLSI) && serial->overrun)
		pending |= SOURCE_LINE;
	if ((serial->ier & UART_IER_RDI) && serial->input.count > 0)
		pending |= SOURCE_DATA;
	if ((serial->ier & UART_IER_THRI) && serial->transmitter_emptied)
		pending |= SOURCE_TRANSMITTER;
	if ((serial->ier & UART_IER_MSI) && serial->modem_changes)
		pending |= SOURCE_MODEM;
	return pending;
}

/* After every change of state: an edge for what has become pending. */
static void update_interrupt(struct serial *serial)
{
	unsigned pending = pending_sources(serial);

	if (pending & ~serial->pending)
		eventfd_write(serial->irq_fd, 1);
	serial->pending = pending;
}

/* Power-on state but for waiting output. */
static void reset_registers(struct serial *serial)
{
	serial->input = (struct fifo){0};
	serial->ier = serial->fcr = serial->mcr = serial->scratch = 0;
	serial->lcr = LCR_RESET;
	serial->divisor = DIVISOR_9600;
	serial->modem_lines = MSR_CONNECTED;
	serial->modem_changes = 0;
	serial->overrun = false;
	serial->transmitter_emptied = false;
	serial->pending = 0;
}

int serial_create(const struct serial_host *host, struct serial **out)
{
	struct serial *serial = calloc(1, sizeof(*serial));
	int result;

	if (!serial)
		return -ENOMEM;
	serial->host = *host;
	serial->irq_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (serial->irq_fd < 0) {
		result = -errno;
		free(serial);
		return result;
	}
	pthread_mutex_init(&serial->lock, NULL);
	reset_registers(serial);
	*out = serial;
	return 0;
}

void serial_destroy(struct serial *serial)
{
	if (!serial)
		return;
	close(serial->irq_fd);
	pthread_mutex_destroy(&serial->lock);
	free(serial);
}

int serial_irq_fd(const struct serial *serial)
{
	return serial->irq_fd;
}

/*
 * Offers the waiting output to the host. The lock is held, but not while the host works, for it may
 * have locks of its own. One thread does so at a time, which keeps the bytes in order; another one
 * that comes meanwhile leaves its bytes to the first. Once the host has refused some, only the host
 * itself brings about another try: else a guest that writes on would keep the thread here.
 */
static void flush_output(struct serial *serial)
{
	if (serial->flushing || serial->output.count == 0)
		return;
	serial->flushing = true;
	do {
		uint8_t bytes[SERIAL_FIFO_SIZE];
		unsigned count = fifo_peek(&serial->output, bytes);
		size_t taken = count;

		serial->flush_again = false;
		if (serial->host.write) {
			pthread_mutex_unlock(&serial->lock);
			taken = serial->host.write(serial->host.opaque, bytes, count);
			pthread_mutex_lock(&serial->lock);
		}
		fifo_drop(&serial->output, taken < count ? (unsigned)taken : count);
		if (taken >= count && serial->output.count > 0)
			serial->flush_again = true; /* written meanwhile */
	} while (serial->flush_again && serial->output.count > 0);
	serial->flushing = false;
	serial->flush_again = false;
	if (serial->output.count == 0)
		serial->transmitter_emptied = true;
}

void serial_host_writable(struct serial *serial)
{
	pthread_mutex_lock(&serial->lock);
	serial->flush_again = true; /* the thread that flushes may have been refused just before */
	flush_output(serial);
	update_interrupt(serial);
	pthread_mutex_unlock(&serial->lock);
}

/* True, once, when the host is to be told that there is room for input again. */
static bool take_room_notice(struct serial *serial)
{
	if (!serial->input_refused || serial->input.count > 0 || in_loopback(serial))
		return false;
	serial->input_refused = false;
	return serial->host.receivable != NULL;
}

/* Ends an access: interrupt, unlock, then tell the host. */
static void finish(struct serial *serial)
{
	bool has_room = take_room_notice(serial);

	update_interrupt(serial);
	pthread_mutex_unlock(&serial->lock);
	if (has_room)
		serial->host.receivable(serial->host.opaque);
}

void serial_reset(struct serial *serial)
{
	pthread_mutex_lock(&serial->lock);
	reset_registers(serial);
	finish(serial);
}

size_t serial_receive(struct serial *serial, const uint8_t *data, size_t length)
{
	size_t taken = 0;

	pthread_mutex_lock(&serial->lock);
	if (!in_loopback(serial)) {
		while (taken < length &&
		       fifo_push(&serial->input, input_capacity(serial), data[taken]))
			taken++;
	}
	if (taken < length)
		serial->input_refused = true;
	update_interrupt(serial);
	pthread_mutex_unlock(&serial->lock);
	return taken;
}

static unsigned input_trigger(const struct serial *serial)
{
	static const uint8_t levels[] = {1, 4, 8, 14};

	return fifos_enabled(serial) ? levels[serial->fcr >> 6] : 1;
}

/* Names the most urgent source; reading it acknowledges the transmitter's. */
static uint8_t read_iir(struct serial *serial)
{
	uint8_t fifos = fifos_enabled(serial) ? IIR_FIFOS : 0;
	unsigned pending = pending_sources(serial);

	if (pending & SOURCE_LINE)
		return fifos | UART_IIR_RLSI;
	if (pending & SOURCE_DATA)
		return fifos |
		       (serial->input.count >= input_trigger(serial) ? UART_IIR_RDI : IIR_TIMEOUT);
	if (pending & SOURCE_TRANSMITTER) {
		serial->transmitter_emptied = false;
		return fifos | UART_IIR_THRI;
	}
	if (pending & SOURCE_MODEM)
		return fifos | UART_IIR_MSI;
	return fifos | UART_IIR_NO_INT;
}

static uint8_t read_lsr(struct serial *serial)
{
	uint8_t lsr = 0;

	if (serial->input.count > 0)
		lsr |= UART_LSR_DR;
	if (serial->overrun)
		lsr |= UART_LSR_OE;
	if (serial->output.count == 0)
		lsr |= UART_LSR_THRE | UART_LSR_TEMT;
	serial->overrun = false;
	return lsr;
}

static uint8_t read_msr(struct serial *serial)
{
	uint8_t msr = serial->modem_lines | serial->modem_changes;

	serial->modem_changes = 0;
	return msr;
}

static uint8_t read_data(struct serial *serial)
{
	uint8_t byte = serial->input.bytes[serial->input.start];

	if (serial->input.count == 0)
		return 0;
	fifo_drop(&serial->input, 1);
	return byte;
}

static uint8_t read_register(struct serial *serial, unsigned offset)
{
	bool divisor_access = serial->lcr & UART_LCR_DLAB;

	switch (offset) {
	case UART_RX:
		return divisor_access ? (uint8_t)serial->divisor : read_data(serial);
	case UART_IER:
		return divisor_access ? (uint8_t)(serial->divisor >> 8) : serial->ier;
	case UART_IIR:
		return read_iir(serial);
	case UART_LCR:
		return serial->lcr;
	case UART_MCR:
		return serial->mcr;
	case UART_LSR:
		return read_lsr(serial);
	case UART_MSR:
		return read_msr(serial);
	default:
		return serial->scratch;
	}
}

static void write_data(struct serial *serial, uint8_t byte)
{
	/* Writing acknowledges; becoming empty again is news. */
	serial->transmitter_emptied = false;
	serial->pending &= ~(unsigned)SOURCE_TRANSMITTER;
	if (in_loopback(serial)) {
		if (!fifo_push(&serial->input, input_capacity(serial), byte))
			serial->overrun = true;
		serial->transmitter_emptied = serial->output.count == 0;
		return;
	}
	/* A guest that ignores THRE loses the byte, as it would with real hardware. */
	fifo_push(&serial->output, SERIAL_FIFO_SIZE, byte);
	flush_output(serial);
}

static void write_ier(struct serial *serial, uint8_t value)
{
	bool enables_thri = (value & ~serial->ier) & UART_IER_THRI;

	serial->ier = value & IER_MASK;
	/* Enabling the interrupt while the transmitter is empty raises it. */
	if (enables_thri && serial->output.count == 0)
		serial->transmitter_emptied = true;
}

static void write_fcr(struct serial *serial, uint8_t value)
{
	bool toggles = (value ^ serial->fcr) & UART_FCR_ENABLE_FIFO;

	if (toggles || (value & UART_FCR_CLEAR_RCVR))
		serial->input = (struct fifo){0};
	serial->fcr = value & UART_FCR_ENABLE_FIFO
			      ? value & (UART_FCR_ENABLE_FIFO | UART_FCR_TRIGGER_MASK)
			      : 0;
}

/* In loopback the modem's inputs are the outputs of MCR. */
static uint8_t modem_lines(const struct serial *serial)
{
	uint8_t lines = 0;

	if (!in_loopback(serial))
		return MSR_CONNECTED;
	if (serial->mcr & UART_MCR_RTS)
		lines |= UART_MSR_CTS;
	if (serial->mcr & UART_MCR_DTR)
		lines |= UART_MSR_DSR;
	if (serial->mcr & UART_MCR_OUT1)
		lines |= UART_MSR_RI;
	if (serial->mcr & UART_MCR_OUT2)
		lines |= UART_MSR_DCD;
	return lines;
}

static void write_mcr(struct serial *serial, uint8_t value)
{
	uint8_t before = serial->modem_lines, changed;

	serial->mcr = value & MCR_MASK;
	serial->modem_lines = modem_lines(serial);
	changed = before ^ serial->modem_lines;
	if (changed & UART_MSR_CTS)
		serial->modem_changes |= UART_MSR_DCTS;
	if (changed & UART_MSR_DSR)
		serial->modem_changes |= UART_MSR_DDSR;
	if (changed & before & UART_MSR_RI) /* the trailing edge only */
		serial->modem_changes |= UART_MSR_TERI;
	if (changed & UART_MSR_DCD)
		serial->modem_changes |= UART_MSR_DDCD;
}

static void write_register(struct serial *serial, unsigned offset, uint8_t value)
{
	bool divisor_access = serial->lcr & UART_LCR_DLAB;

	switch (offset) {
	case UART_TX:
		if (divisor_access)
			serial->divisor = (uint16_t)((serial->divisor & 0xff00) | value);
		else
			write_data(serial, value);
		break;
	case UART_IER:
		if (divisor_access)
			serial->divisor = (uint16_t)((serial->divisor & 0xff) | value << 8);
		else
			write_ier(serial, value);
		break;
	case UART_FCR:
		write_fcr(serial, value);
		break;
	case UART_LCR:
		serial->lcr = value;
		break;
	case UART_MCR:
		write_mcr(serial, value);
		break;
	case UART_SCR:
		serial->scratch = value;
		break;
	default:
		break; /* LSR and MSR are read-only */
	}
}

/* A wider access is one to each byte register, in order. */
static uint64_t serial_read(void *opaque, uint64_t offset, unsigned size)
{
	struct serial *serial = opaque;
	uint64_t value = 0;

	pthread_mutex_lock(&serial->lock);
	for (unsigned i = 0; i < size; i++)
		value |= (uint64_t)read_register(serial, (unsigned)offset + i) << (8 * i);
	finish(serial);
	return value;
}

static void serial_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
	struct serial *serial = opaque;

	pthread_mutex_lock(&serial->lock);
	for (unsigned i = 0; i < size; i++)
		write_register(serial, (unsigned)offset + i, (uint8_t)(value >> (8 * i)));
	finish(serial);
}

const struct bus_ops serial_bus_ops = {
	.read = serial_read,
	.write = serial_write,
};
