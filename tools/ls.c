/* SPDX-License-Identifier: MIT */
/* kmcl ls: the offers on a bus, as a guest sees them. */
#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "echo.h"
#include "guid.h"
#include "kmcl.h"
#include "who.h"

static void
print_usage(FILE *out)
{
	fputs("usage: kmcl ls --bus BUS [OPTION]...\n"
	      "\n"
	      "Connects to a VMBus host and lists what it offers.\n"
	      "\n"
	      "  --bus BUS   the socket of the host; inside a Linux guest uio: for the devices that are bound to\n"
	      "              uio_hv_generic, uio:GUID for those of a class or instance, uio:bind=GUID to bind\n"
	      "              them first, uio:all for every device\n"
	      WHO_USAGE_CLIENT
	      "  --json      print a JSON array\n",
	      out);
}

static const char *
type_name(const struct kmcl_offer_info *offer)
{
	if (offer->type_name != NULL)
		return offer->type_name;
	return memcmp(&offer->type, &ECHO_INTERFACE_TYPE, sizeof(offer->type)) == 0 ? "OpenKMCL echo"
	                                                                            : "unknown";
}

static void
print_text(const struct kmcl_offer_info *offers, uint32_t count)
{
	char type[GUID_TEXT_BYTES], instance[GUID_TEXT_BYTES];

	for (uint32_t i = 0; i < count; i++) {
		guid_format(&offers[i].type, type);
		guid_format(&offers[i].instance, instance);
		printf("channel %u: %s\n  type     %s\n  instance %s\n", offers[i].channel_id,
		       type_name(&offers[i]), type, instance);
		if (offers[i].flags != 0)
			printf("  flags    0x%04x\n", offers[i].flags);
		if (offers[i].subchannel_index != 0)
			printf("  subchannel %u\n", offers[i].subchannel_index);
		if (offers[i].mmio_megabytes != 0)
			printf("  mmio     %u MiB\n", offers[i].mmio_megabytes);
	}
}

static void
print_json(const struct kmcl_offer_info *offers, uint32_t count)
{
	json_t *array = json_array();
	char type[GUID_TEXT_BYTES], instance[GUID_TEXT_BYTES];

	for (uint32_t i = 0; i < count; i++) {
		guid_format(&offers[i].type, type);
		guid_format(&offers[i].instance, instance);
		json_array_append_new(array,
		                      json_pack("{s:i, s:s, s:s, s:s, s:i, s:i, s:i}", "channel_id",
		                                (int)offers[i].channel_id, "name",
		                                type_name(&offers[i]), "type", type, "instance",
		                                instance, "flags", (int)offers[i].flags,
		                                "subchannel_index", (int)offers[i].subchannel_index,
		                                "mmio_megabytes", (int)offers[i].mmio_megabytes));
	}
	json_dumpf(array, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(array);
}

static int
list(const char *path, const struct kmcl_bus_options *options, bool json)
{
	struct kmcl_offer_info *offers;
	struct kmcl_bus *bus;
	enum vmb_status status = kmcl_bus_connect(path, options, &bus);
	uint32_t count, got;

	if (status != VMB_OK) {
		fprintf(stderr, "kmcl ls: cannot connect to %s: %s\n", path, vmb_status_name(status));
		return EXIT_FAILED;
	}
	count = kmcl_bus_offers(bus, NULL, 0);
	offers = calloc(count + 1, sizeof(*offers));
	if (offers != NULL) {
		got = kmcl_bus_offers(bus, offers, count);
		count = got < count ? got : count;
		if (json)
			print_json(offers, count);
		else
			print_text(offers, count);
	}
	free(offers);
	kmcl_bus_close(bus);
	return offers != NULL ? EXIT_OK : EXIT_FAILED;
}

int
ls_main(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "bus", required_argument, NULL, 'b' },
		{ "allow-uid", required_argument, NULL, 'u' },
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	struct kmcl_bus_options options = { .size = sizeof(options) };
	const char *path = NULL;
	bool json = false;
	int c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (c) {
		case 'b':
			path = optarg;
			break;
		case 'u':
			if (!who_allow_uid(&options.access, "kmcl ls", optarg))
				return EXIT_USAGE;
			break;
		case 'j':
			json = true;
			break;
		case 'h':
			print_usage(stdout);
			return EXIT_OK;
		default:
			print_usage(stderr);
			return EXIT_USAGE;
		}
	}
	if (path == NULL || optind != argc) {
		fprintf(stderr, "kmcl ls: expected --bus BUS and nothing else\n");
		print_usage(stderr);
		return EXIT_USAGE;
	}
	return list(path, &options, json);
}
