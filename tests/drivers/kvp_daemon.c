/* SPDX-License-Identifier: MIT */
/* The guest's daemon of the key/value component. */
#include "kvp_daemon.h"

/* UTF-16 in a message to ASCII; the kernel stops at the terminator. */
static void
to_text(const uint8_t *at, uint32_t most, char *text)
{
	uint32_t i = 0;

	while (i < most && wire_get16(at + 2 * i) != 0) {
		text[i] = (char)wire_get16(at + 2 * i);
		i++;
	}
	text[i] = 0;
}

/* Without a terminator, as the kernel: what was there before ends it. Returns the size that it says. */
static uint32_t
from_text(const char *text, uint8_t *at)
{
	uint32_t length = (uint32_t)strlen(text);

	for (uint32_t i = 0; i < length; i++)
		wire_put16(at + 2 * i, (uint8_t)text[i]);
	return 2 * (length + 1);
}

static struct daemon_pair *
find(struct daemon *d, uint8_t pool, const char *key)
{
	for (uint32_t i = 0; i < DAEMON_PAIRS; i++) {
		if (d->pairs[i].used && d->pairs[i].pool == pool &&
		    strcmp(d->pairs[i].key, key) == 0)
			return &d->pairs[i];
	}
	return NULL;
}

static uint32_t
set_pair(struct daemon *d, uint8_t pool, const uint8_t *data)
{
	struct daemon_pair *pair;
	char key[512];

	to_text(data + AT_KEY, 511, key);
	pair = find(d, pool, key);
	for (uint32_t i = 0; pair == NULL && i < DAEMON_PAIRS; i++) {
		if (!d->pairs[i].used)
			pair = &d->pairs[i];
	}
	if (pair == NULL)
		return IC_E_NO_MORE_ITEMS;
	pair->used = true;
	pair->pool = pool;
	(void)snprintf(pair->key, sizeof(pair->key), "%s", key);
	if (wire_get32(data) == KVP_U32)
		(void)snprintf(pair->value, sizeof(pair->value), "%u", wire_get32(data + AT_VALUE));
	else if (wire_get32(data) == KVP_U64)
		(void)snprintf(pair->value, sizeof(pair->value), "%llu",
		               (unsigned long long)wire_get64(data + AT_VALUE));
	else
		to_text(data + AT_VALUE, 1023, pair->value);
	return IC_S_OK;
}

static void
put_value(uint8_t *data, const struct daemon_pair *pair)
{
	wire_put32(data + 8, from_text(pair->value, data + AT_VALUE));
	wire_put32(data, KVP_STRING);
}

static uint32_t
enumerate(struct daemon *d, uint8_t pool, uint8_t *body)
{
	uint32_t index = wire_get32(body + 4);

	for (uint32_t i = 0; i < DAEMON_PAIRS; i++) {
		if (!d->pairs[i].used || d->pairs[i].pool != pool || index-- != 0)
			continue;
		wire_put32(body + 8 + 4, from_text(d->pairs[i].key, body + 8 + AT_KEY));
		put_value(body + 8, &d->pairs[i]);
		return IC_S_OK;
	}
	return IC_E_NO_MORE_ITEMS;
}

static uint32_t
ip_info(uint8_t *body)
{
	char adapter[128];

	to_text(body + 2, 127, adapter);
	if (strcmp(adapter, "00:15:5D:01:02:03") != 0)
		return IC_E_FAIL;
	body[258] = 3;
	body[259] = 1;
	(void)from_text("10.0.0.2;fe80::1", body + 260);
	(void)from_text("255.255.255.0;/64", body + 260 + 2048);
	(void)from_text("10.0.0.1", body + 260 + 4096);
	(void)from_text("9.9.9.9", body + 260 + 4096 + 1024);
	return IC_S_OK;
}

void
daemon_serve(struct ic_guest *g, uint8_t *packet, uint32_t bytes)
{
	uint8_t *body = packet + GUEST_BODY, pool = body[1];
	struct daemon *d = g->ctx;
	uint32_t status = IC_E_FAIL;
	struct daemon_pair *pair;
	char key[512];

	if (packet[GUEST_HEADER + 4] != IC_KVP || bytes < GUEST_BODY + 2580)
		abort();
	switch (body[0]) {
	case 0:
		to_text(packet + AT_DATA + AT_KEY, 511, key);
		pair = find(d, pool, key);
		status = pair != NULL ? IC_S_OK : IC_E_NO_MORE_ITEMS;
		if (pair != NULL)
			put_value(packet + AT_DATA, pair);
		break;
	case 1:
		status = set_pair(d, pool, packet + AT_DATA);
		break;
	case 2:
		to_text(packet + AT_DATA + 4, 255, key);
		pair = find(d, pool, key);
		status = pair != NULL ? IC_S_OK : IC_E_NO_MORE_ITEMS;
		if (pair != NULL)
			pair->used = false;
		break;
	case 3:
		status = enumerate(d, pool, body);
		break;
	case 4:
		status = bytes >= GUEST_BODY + 7428 ? ip_info(body) : IC_E_FAIL;
		break;
	default:
		break;
	}
	wire_put32(packet + GUEST_HEADER + 12, status);
}
