/* SPDX-License-Identifier: MIT */
#include "serial.h"

#include <string.h>

enum {
	REG_DATA,               /* divisor, low, with DLAB */
	REG_INTERRUPT_ENABLE,   /* divisor, high, with DLAB */
	REG_INTERRUPT_ID,       /* written: FIFO control */
	REG_LINE_CONTROL,
	REG_MODEM_CONTROL,
	REG_LINE_STATUS,
	REG_MODEM_STATUS,
	REG_SCRATCH,
};

#define ENABLE_DATA 0x01u
#define ENABLE_TRANSMIT 0x02u
#define ENABLE_BITS 0x0Fu
#define ID_NONE 0x01u
#define ID_TRANSMIT 0x02u
#define ID_DATA 0x04u
#define ID_FIFO 0xC0u
#define FIFO_ENABLED 0x01u
#define FIFO_CLEAR_INPUT 0x02u
#define CONTROL_DLAB 0x80u
#define MODEM_LOOP 0x10u
#define MODEM_INTERRUPTS 0x08u  /* OUT2 */
#define STATUS_DATA 0x01u
#define STATUS_TRANSMITTER_EMPTY 0x60u
#define MODEM_STATUS_READY 0xB0u        /* CTS, DSR, DCD */

void
serial_init(struct serial *serial, void (*output)(void *, const void *, uint32_t),
            void (*line)(void *, bool), void *ctx)
{
	memset(serial, 0, sizeof(*serial));
	(void)pthread_mutex_init(&serial->lock, NULL);
	(void)pthread_mutex_init(&serial->output_lock, NULL);
	serial->output = output;
	serial->line = line;
	serial->ctx = ctx;
}

void
serial_fini(struct serial *serial)
{
	pthread_mutex_destroy(&serial->output_lock);
	pthread_mutex_destroy(&serial->lock);
}

static uint8_t
pending(const struct serial *serial)
{
	if ((serial->interrupt_enable & ENABLE_DATA) != 0 && serial->count != 0)
		return ID_DATA;
	if ((serial->interrupt_enable & ENABLE_TRANSMIT) != 0 && serial->transmit_pending)
		return ID_TRANSMIT;
	return ID_NONE;
}

static void
update_line(struct serial *serial)
{
	bool up = pending(serial) != ID_NONE && (serial->modem_control & MODEM_INTERRUPTS) != 0;

	if (up == serial->is_up)
		return;
	serial->is_up = up;
	serial->line(serial->ctx, up);
}

static void
put_input(struct serial *serial, uint8_t byte)
{
	if (serial->count == SERIAL_INPUT_BYTES)
		return;
	serial->input[(serial->head + serial->count++) % SERIAL_INPUT_BYTES] = byte;
}

/* Not for the wire: kept in the lock's care. False: it goes out. */
static bool
loop_back(struct serial *serial, uint8_t value)
{
	bool loops;

	pthread_mutex_lock(&serial->lock);
	loops = (serial->modem_control & MODEM_LOOP) != 0;
	if (loops)
		put_input(serial, value);
	pthread_mutex_unlock(&serial->lock);
	return loops;
}

static void
write_data(struct serial *serial, uint8_t value)
{
	if (!loop_back(serial, value)) {
		pthread_mutex_lock(&serial->output_lock);
		serial->output(serial->ctx, &value, 1);
		pthread_mutex_unlock(&serial->output_lock);
	}
	pthread_mutex_lock(&serial->lock);
	serial->transmit_pending = true;
	update_line(serial);
	pthread_mutex_unlock(&serial->lock);
}

void
serial_write(struct serial *serial, uint32_t reg, uint8_t value)
{
	bool divisor;

	pthread_mutex_lock(&serial->lock);
	divisor = (serial->line_control & CONTROL_DLAB) != 0 && reg <= REG_INTERRUPT_ENABLE;
	if (divisor) {
		serial->divisor[reg] = value;
	} else {
		switch (reg) {
		case REG_DATA:
			pthread_mutex_unlock(&serial->lock);
			write_data(serial, value);
			return;
		case REG_INTERRUPT_ENABLE:
			/* Switching it on tells that the transmitter is empty, as it always is. */
			if ((value & ~serial->interrupt_enable & ENABLE_TRANSMIT) != 0)
				serial->transmit_pending = true;
			serial->interrupt_enable = value & ENABLE_BITS;
			break;
		case REG_INTERRUPT_ID:
			serial->fifo_control = value;
			if ((value & FIFO_CLEAR_INPUT) != 0)
				serial->count = 0;
			break;
		case REG_LINE_CONTROL:
			serial->line_control = value;
			break;
		case REG_MODEM_CONTROL:
			serial->modem_control = value;
			break;
		case REG_SCRATCH:
			serial->scratch = value;
			break;
		default:
			break;
		}
	}
	update_line(serial);
	pthread_mutex_unlock(&serial->lock);
}

static uint8_t
read_data(struct serial *serial)
{
	uint8_t value = 0;

	if (serial->count != 0) {
		value = serial->input[serial->head];
		serial->head = (serial->head + 1) % SERIAL_INPUT_BYTES;
		serial->count--;
	}
	return value;
}

static uint8_t
read_interrupt_id(struct serial *serial)
{
	uint8_t id = pending(serial);

	if (id == ID_TRANSMIT)
		serial->transmit_pending = false;
	return id | ((serial->fifo_control & FIFO_ENABLED) != 0 ? ID_FIFO : 0);
}

/* In loop-back the outputs are the inputs: DTR, RTS, OUT1, OUT2 as DSR, CTS, RI, DCD. */
static uint8_t
read_modem_status(const struct serial *serial)
{
	uint8_t out = serial->modem_control;

	if ((out & MODEM_LOOP) == 0)
		return MODEM_STATUS_READY;
	return (uint8_t)((out & 1) << 5 | (out & 2) << 3 | (out & 4) << 4 | (out & 8) << 4);
}

uint8_t
serial_read(struct serial *serial, uint32_t reg)
{
	uint8_t value = 0;

	pthread_mutex_lock(&serial->lock);
	if ((serial->line_control & CONTROL_DLAB) != 0 && reg <= REG_INTERRUPT_ENABLE) {
		value = serial->divisor[reg];
	} else {
		switch (reg) {
		case REG_DATA:
			value = read_data(serial);
			break;
		case REG_INTERRUPT_ENABLE:
			value = serial->interrupt_enable;
			break;
		case REG_INTERRUPT_ID:
			value = read_interrupt_id(serial);
			break;
		case REG_LINE_CONTROL:
			value = serial->line_control;
			break;
		case REG_MODEM_CONTROL:
			value = serial->modem_control;
			break;
		case REG_LINE_STATUS:
			value = (uint8_t)(STATUS_TRANSMITTER_EMPTY | (serial->count != 0 ? STATUS_DATA : 0));
			break;
		case REG_MODEM_STATUS:
			value = read_modem_status(serial);
			break;
		default:
			value = serial->scratch;
			break;
		}
	}
	update_line(serial);
	pthread_mutex_unlock(&serial->lock);
	return value;
}

uint32_t
serial_type(struct serial *serial, const void *bytes, uint32_t count)
{
	const uint8_t *from = bytes;
	uint32_t taken = 0;

	pthread_mutex_lock(&serial->lock);
	while (taken < count && serial->count < SERIAL_INPUT_BYTES)
		put_input(serial, from[taken++]);
	update_line(serial);
	pthread_mutex_unlock(&serial->lock);
	return taken;
}
