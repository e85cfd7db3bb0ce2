/* SPDX-License-Identifier: MIT */
/*
 * A 16550A serial port: what is written goes out at once, what is typed waits in a buffer. Any thread. Output
 * that nobody takes holds up who writes, and nobody else.
 */
#ifndef SERIAL_H
#define SERIAL_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define SERIAL_INPUT_BYTES 4096u

struct serial {
	pthread_mutex_t lock;
	pthread_mutex_t output_lock;    /* before `lock`; held while output() waits for whoever reads it */
	void (*output)(void *ctx, const void *bytes, uint32_t count);
	/* The interrupt line goes up or down. */
	void (*line)(void *ctx, bool up);
	void *ctx;
	uint8_t interrupt_enable, line_control, modem_control, scratch, divisor[2], fifo_control;
	bool transmit_pending;          /* "transmitter empty" has not been seen */
	bool is_up;
	uint8_t input[SERIAL_INPUT_BYTES];
	uint32_t head, count;
};

void serial_init(struct serial *serial, void (*output)(void *, const void *, uint32_t),
                 void (*line)(void *, bool), void *ctx);
void serial_fini(struct serial *serial);
/* reg 0..7 */
void serial_write(struct serial *serial, uint32_t reg, uint8_t value);
uint8_t serial_read(struct serial *serial, uint32_t reg);
/* Returns how many bytes there was room for. */
uint32_t serial_type(struct serial *serial, const void *bytes, uint32_t count);

#endif
