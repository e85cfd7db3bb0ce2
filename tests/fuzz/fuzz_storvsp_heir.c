/* SPDX-License-Identifier: MIT */
/*
 * The successor of the SCSI controller's fuzzer: it is given what another one saved, or what the bus kept, with some of it forged. It
 * begins or refuses, and then is gone again.
 */
#include "fuzz_memory.h"
#include "fuzz_storvsp.h"

#define HEADER_BYTES 20u
#define WORD_BYTES 4u

static const GUID instance = { 0x7c1d0f5eu, 2, 3, { 1, 2, 3, 4, 5, 6, 7, 8 } };
static uint8_t saved[4096], forged[sizeof(saved)];
static uint32_t saved_bytes, forged_bytes;

static NTSTATUS
read_state(PVOID context, VMBCHANNEL channel, PVOID state, ULONG bytes, PULONG filled)
{
	const NTSTATUS *status = context;

	FUZZ_CHECK(channel != NULL);
	if (*status != STATUS_SUCCESS)
		return *status;
	*filled = forged_bytes < bytes ? forged_bytes : bytes;
	memcpy(state, forged, *filled);
	return STATUS_SUCCESS;
}

static NTSTATUS
begin(struct storvsp_options *options, struct storvsp **made)
{
	const struct storvsp_disk disk = { .path = world.read_only_path, .read_only = TRUE };
	char reason[200];
	NTSTATUS status;

	options->instance = &instance;
	options->max_subchannels = 1;
	options->depth = 1;
	options->no_uring = TRUE;
	options->disks = &disk;
	options->disk_count = 1;
	status = storvsp_create(options, made, reason, sizeof(reason));
	FUZZ_CHECK((status == STATUS_SUCCESS) == (*made != NULL) &&
	           (status == STATUS_SUCCESS) == (reason[0] == '\0'));
	return status;
}

void
make_saved(void)
{
	struct storvsp_options options = { 0 };
	struct storvsp *made;
	uint8_t *bytes;
	SIZE_T count;

	MUST(begin(&options, &made));
	MUST(storvsp_save(made, &bytes, &count));
	FUZZ_CHECK(count + 0x80 <= sizeof(saved));
	memcpy(saved, bytes, count);
	saved_bytes = (uint32_t)count;
	storvsp_free_saved(bytes);
	storvsp_destroy(made);
}

/* Some words of the header, a byte of the rest, and another length. */
static void
forge(struct fuzz *fuzz)
{
	uint32_t words = fuzz_u8(fuzz), at = fuzz_u16(fuzz), value = fuzz_u8(fuzz);
	uint32_t bytes = fuzz_u8(fuzz);

	memcpy(forged, saved, sizeof(forged));
	forged_bytes = saved_bytes;
	for (uint32_t i = 0; i < HEADER_BYTES / WORD_BYTES; i++)
		if ((words >> i & 1) != 0)
			storvsp_put_le32(forged + i * WORD_BYTES, fuzz_u16(fuzz));
	if ((words & 0x20) != 0)
		storvsp_put_le32(forged + HEADER_BYTES, fuzz_u16(fuzz));
	if ((words & 0x40) != 0)
		forged[HEADER_BYTES + at % (saved_bytes - HEADER_BYTES)] = (uint8_t)value;
	if ((words & 0x80) != 0)
		forged_bytes = bytes % 2 != 0 ? bytes / 2 : saved_bytes + bytes / 2;
}

void
take_over(struct fuzz *fuzz)
{
	struct storvsp_options options = { 0 };
	static const NTSTATUS kept[] = { STATUS_SUCCESS, STATUS_NOT_FOUND, STATUS_UNSUCCESSFUL };
	uint32_t how = fuzz_below(fuzz, 6), memory = fuzz_u8(fuzz);
	NTSTATUS state = kept[how % 3];
	struct storvsp *made;
	NTSTATUS status;
	bool ran_out;

	forge(fuzz);
	if (how < 3) {
		options.read_state = read_state;
		options.state_context = &state;
		/* The bus keeps no more than the controller gave it. */
		if (forged_bytes == saved_bytes)
			forged_bytes = HEADER_BYTES;
	} else {
		options.saved = forged;
		options.saved_bytes = forged_bytes;
	}
	fuzz_memory_left = memory < 0x80 ? 0 : memory - 0x7F;
	status = begin(&options, &made);
	ran_out = memory >= 0x80 && fuzz_memory_left == 0;
	fuzz_memory_left = 0;
	if (how == 1)
		FUZZ_CHECK(status == STATUS_SUCCESS || ran_out);
	if (how == 2)
		FUZZ_CHECK(status != STATUS_SUCCESS);
	storvsp_destroy(made);
}
