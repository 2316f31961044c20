/*
 * A 16550A UART with its 16-byte FIFOs (8 ports).
 *
 * Output: a byte written by the guest goes to host->write(). Bytes that the host does not take wait
 * in the transmit FIFO, LSR.THRE stays clear meanwhile, and serial_host_writable() tries again:
 * a guest that respects THRE loses nothing. Bytes in the FIFO count as sent, so that neither the
 * guest's FIFO reset nor serial_reset() drops them.
 *
 * Input: serial_receive() fills the receive FIFO and says how much fitted. If it refused some,
 * host->receivable() tells when to offer more.
 *
 * Interrupt: an eventfd written when a source becomes newly pending (edge semantics). A receive
 * timeout is pending as soon as data waits below the FIFO's trigger level: no character time is
 * simulated, nor is the baud rate.
 *
 * Any thread may call in; a lock inside guards the state and is not held while the host's functions
 * run.
 */
#ifndef EBB_DEVICES_SERIAL_H
#define EBB_DEVICES_SERIAL_H

#include <stddef.h>
#include <stdint.h>

#include "devices/bus.h"

#define SERIAL_PORTS     8u
#define SERIAL_FIFO_SIZE 16u

struct serial;

/* Called on the thread that did the access. */
struct serial_host {
	void *opaque;
	/* Takes output, returns how many bytes (0: none now). Never blocks. NULL: swallows all. */
	size_t (*write)(void *opaque, const uint8_t *data, size_t length);
	/* serial_receive() may take more than it did. NULL: nobody wants to know. */
	void (*receivable)(void *opaque);
};

/* @host is copied. 0 or -errno. */
int serial_create(const struct serial_host *host, struct serial **out);
void serial_destroy(struct serial *serial);

/* Power-on state; waiting output is kept. */
void serial_reset(struct serial *serial);

/* Offers input: returns how many bytes were taken. */
size_t serial_receive(struct serial *serial, const uint8_t *data, size_t length);

/* The host can take output again. */
void serial_host_writable(struct serial *serial);

/* The interrupt's eventfd. Owned by the serial port. */
int serial_irq_fd(const struct serial *serial);

/* SERIAL_PORTS byte ports; the bus device is the struct serial. */
extern const struct bus_ops serial_bus_ops;

#endif
