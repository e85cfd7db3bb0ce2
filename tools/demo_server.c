/* SPDX-License-Identifier: MIT */
/*
 * The demonstration's server, a process of its own: offers two channels and serves them until it is killed or its parent
 * goes. External data is hashed where it lies, in the client's memory.
 */
#include <openssl/evp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "commands.h"
#include "demo_protocol.h"
#include "kmcl.h"

#define MOST_WITHHELD 64

const GUID DEMO_INTERFACE_TYPE = {
	0x7a5b0e91, 0x2f84, 0x4c1d, { 0xa6, 0x02, 0xd9, 0x3b, 0x48, 0x75, 0x1f, 0xe0 }
};
const GUID DEMO_REQUEST_INSTANCE = {
	0x1b6d93c2, 0x7e05, 0x4f8a, { 0x94, 0x3c, 0x60, 0xd1, 0xb7, 0x2e, 0xa8, 0x51 }
};
const GUID DEMO_CONTROL_INSTANCE = {
	0x1b6d93c2, 0x7e05, 0x4f8a, { 0x94, 0x3c, 0x60, 0xd1, 0xb7, 0x2e, 0xa8, 0x52 }
};

/* Both channels touch this, so a spin lock guards it; the digest belongs to the request channel alone. */
static struct {
	KSPIN_LOCK lock;
	VMBCHANNEL requests;
	VMBPACKETCOMPLETION withheld[MOST_WITHHELD];
	UINT32 withheld_count;
	UINT64 counted, out_of_order, expected;
	EVP_MD_CTX *total;
} server;

/* SHA-256 of the chain, piece by piece where it lies, into `digest` and into the running total. */
static BOOLEAN
hash_external(VMBPACKETCOMPLETION packet, UINT8 *digest)
{
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	BOOLEAN ok = context != NULL && EVP_DigestInit_ex(context, EVP_sha256(), NULL) == 1;
	PMDL mdl;

	if (ok && VmbChannelPacketGetExternalData(
	                  packet, VMBUS_CHANNEL_PACKET_EXTERNAL_DATA_FLAG_READ_ONLY, &mdl) !=
	                  STATUS_SUCCESS)
		ok = FALSE;
	for (; ok && mdl != NULL; mdl = mdl->Next) {
		const void *data = MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority);

		ok = data != NULL &&
		     EVP_DigestUpdate(context, data, MmGetMdlByteCount(mdl)) == 1 &&
		     EVP_DigestUpdate(server.total, data, MmGetMdlByteCount(mdl)) == 1;
	}
	if (ok)
		ok = EVP_DigestFinal_ex(context, digest, NULL) == 1;
	EVP_MD_CTX_free(context);
	return ok;
}

static BOOLEAN
hash_total(UINT8 *digest)
{
	return EVP_DigestFinal_ex(server.total, digest, NULL) == 1 &&
	       EVP_DigestInit_ex(server.total, EVP_sha256(), NULL) == 1;
}

static BOOLEAN
withhold(VMBPACKETCOMPLETION packet)
{
	BOOLEAN kept = FALSE;
	KIRQL old;

	KeAcquireSpinLock(&server.lock, &old);
	if (server.withheld_count < MOST_WITHHELD) {
		server.withheld[server.withheld_count++] = packet;
		kept = TRUE;
	}
	KeReleaseSpinLock(&server.lock, old);
	return kept;
}

static VOID
count(const struct demo_request *request)
{
	KIRQL old;

	KeAcquireSpinLock(&server.lock, &old);
	server.counted++;
	if (request->Sequence != server.expected)
		server.out_of_order++;
	server.expected = request->Sequence + 1;
	KeReleaseSpinLock(&server.lock, old);
}

static VOID
process_request(VMBCHANNEL channel, VMBPACKETCOMPLETION packet, PVOID buffer, UINT32 length, UINT32 flags)
{
	struct demo_request *request = buffer;
	UINT8 digest[DEMO_DIGEST_BYTES];

	UNREFERENCED_PARAMETER(flags);
	if (length < sizeof(*request)) {
		VmbChannelPacketFail(packet);
		return;
	}
	switch (request->Operation) {
	case DEMO_ECHO:
		for (UINT32 i = 0; i < sizeof(request->Body); i++)
			request->Body[i] = (UINT8)~request->Body[i];
		VmbChannelPacketComplete(packet, request, sizeof(*request));
		return;
	case DEMO_HASH:
		/* A megabyte takes too long for DISPATCH_LEVEL. */
		if (KeGetCurrentIrql() == DISPATCH_LEVEL) {
			VmbChannelPacketDeferToPassive(packet);
			return;
		}
		if (hash_external(packet, digest))
			VmbChannelPacketComplete(packet, digest, sizeof(digest));
		else
			VmbChannelPacketComplete(packet, NULL, 0);
		return;
	case DEMO_HASH_TOTAL:
		if (hash_total(digest))
			VmbChannelPacketComplete(packet, digest, sizeof(digest));
		else
			VmbChannelPacketComplete(packet, NULL, 0);
		return;
	case DEMO_STALL:
		VmbChannelSetTransactionQuota(channel, 1);
		/* fall through */
	case DEMO_WITHHOLD:
		if (!withhold(packet))
			VmbChannelPacketComplete(packet, NULL, 0);
		return;
	case DEMO_COUNT:
		count(request);
		VmbChannelPacketComplete(packet, NULL, 0);
		return;
	default:
		VmbChannelPacketComplete(packet, NULL, 0);
	}
}

static VOID
release_all(VOID)
{
	VMBPACKETCOMPLETION packets[MOST_WITHHELD];
	UINT32 released;
	KIRQL old;

	VmbChannelSetTransactionQuota(server.requests, MAXULONG);
	KeAcquireSpinLock(&server.lock, &old);
	released = server.withheld_count;
	memcpy(packets, server.withheld, sizeof(packets[0]) * released);
	server.withheld_count = 0;
	KeReleaseSpinLock(&server.lock, old);
	for (UINT32 i = 0; i < released; i++)
		VmbChannelPacketComplete(packets[i], NULL, 0);
}

static VOID
process_control(VMBCHANNEL channel, VMBPACKETCOMPLETION packet, PVOID buffer, UINT32 length, UINT32 flags)
{
	const struct demo_request *request = buffer;
	struct demo_report report = { 0 };
	struct kmcl_channel_stats stats;
	KIRQL old;

	UNREFERENCED_PARAMETER(channel);
	UNREFERENCED_PARAMETER(flags);
	if (length < sizeof(*request)) {
		VmbChannelPacketFail(packet);
		return;
	}
	if (request->Operation == DEMO_RELEASE) {
		release_all();
		VmbChannelPacketComplete(packet, NULL, 0);
		return;
	}
	kmcl_channel_get_stats(server.requests, &stats);
	KeAcquireSpinLock(&server.lock, &old);
	report.Withheld = server.withheld_count;
	report.Counted = server.counted;
	report.OutOfOrder = server.out_of_order;
	KeReleaseSpinLock(&server.lock, old);
	report.SignalsSent = stats.signals_sent;
	report.PacketsReceived = stats.packets_received;
	report.BytesShared = stats.bytes_shared;
	report.BytesBounced = stats.bytes_bounced;
	VmbChannelPacketComplete(packet, &report, sizeof(report));
}

static NTSTATUS
offer(HANDLE bus, GUID instance, PFN_VMB_CHANNEL_PROCESS_PACKET process, VMBCHANNEL *channel)
{
	NTSTATUS status = VmbChannelAllocate(NULL, TRUE, channel);

	if (NT_SUCCESS(status))
		status = VmbServerChannelInitSetVmbusHandle(*channel, bus);
	if (NT_SUCCESS(status))
		status = VmbServerChannelInitSetTargetInterfaceId(*channel, DEMO_INTERFACE_TYPE,
		                                                  instance);
	if (NT_SUCCESS(status))
		status = VmbChannelInitSetProcessPacketCallbacks(*channel, process, NULL);
	if (NT_SUCCESS(status))
		status = VmbChannelEnable(*channel);
	if (NT_SUCCESS(status))
		VmbChannelStart(*channel);
	return status;
}

int
demo_server_main(int argc, char **argv)
{
	struct kmcl_bus *bus;
	VMBCHANNEL control;
	HANDLE handle;
	enum vmb_status opened;
	NTSTATUS status;

	if (argc != 2) {
		fprintf(stderr, "kmcl demo-server: expected one argument, the path of the bus\n");
		return EXIT_USAGE;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	KeInitializeSpinLock(&server.lock);
	server.total = EVP_MD_CTX_new();
	if (server.total == NULL || EVP_DigestInit_ex(server.total, EVP_sha256(), NULL) != 1) {
		fprintf(stderr, "kmcl demo-server: SHA-256 is not available\n");
		return EXIT_FAILED;
	}
	opened = kmcl_bus_listen(argv[1], NULL, &bus);
	if (opened != VMB_OK) {
		fprintf(stderr, "kmcl demo-server: cannot listen on %s: %s\n", argv[1],
		        vmb_status_name(opened));
		return EXIT_FAILED;
	}
	handle = kmcl_bus_handle(bus);
	status = offer(handle, DEMO_REQUEST_INSTANCE, process_request, &server.requests);
	if (NT_SUCCESS(status))
		status = offer(handle, DEMO_CONTROL_INSTANCE, process_control, &control);
	kmcl_handle_close(handle);
	if (!NT_SUCCESS(status)) {
		fprintf(stderr, "kmcl demo-server: cannot offer a channel: status 0x%08x\n",
		        (unsigned)status);
		return EXIT_FAILED;
	}
	puts("ready");
	fflush(stdout);
	for (;;)
		pause();
}
