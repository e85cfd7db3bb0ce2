/* SPDX-License-Identifier: MIT */
/* kmcl ioctl: a device control for a device of a driver that `kmcl run` runs. */
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "commands.h"
#include "io_wire.h"
#include "kmcl.h"

#define DEFAULT_OUTPUT 4096u

enum format {
	FORMAT_HEX,
	FORMAT_RAW,
};

struct command {
	const char *bus_path, *control_path, *name, *output_path;
	bool list;
	ULONG code;
	uint32_t output_bytes;
	uint32_t handle_at;
	enum format format;
	char *input;
	size_t input_bytes;
};

static void
print_usage(FILE *out)
{
	fputs("usage: kmcl ioctl (--bus PATH | --control PATH) [OPTION]... DEVICE CODE\n"
	      "       kmcl ioctl (--bus PATH | --control PATH) --list\n"
	      "\n"
	      "Sends a device control to a device of a driver that `kmcl run` runs, and prints what it answers.\n"
	      "DEVICE is a symbolic link (Name or \\\\.\\Name), \\Device\\Name, or {interface class GUID}. CODE is a\n"
	      "number, or DEVICE-TYPE,FUNCTION,METHOD,ACCESS as for CTL_CODE.\n"
	      "\n"
	      "  --bus PATH          the bus that `kmcl run` was given\n"
	      "  --control PATH      the socket that `kmcl run` was given\n"
	      "  --in HEX            input as hexadecimal digits\n"
	      "  --in-text TEXT      input as text\n"
	      "  --in-file FILE      input from a file; - is standard input\n"
	      "  --bus-handle-at N   put the VMBus handle of the driver's process at byte N of the input\n"
	      "  --out BYTES         room for the answer (4096)\n"
	      "  --format hex|raw    how the answer is printed (hex)\n"
	      "  --out-file FILE     put the answer, raw, into a file\n"
	      "  --list              list the names that can be opened\n"
	      "\n"
	      "Exit status 1 if the driver fails the request; its status is printed.\n",
	      out);
}

static const char *
status_name(NTSTATUS status)
{
	static const struct {
		NTSTATUS status;
		const char *name;
	} names[] = {
		{ STATUS_PENDING, "STATUS_PENDING" },
		{ STATUS_BUFFER_OVERFLOW, "STATUS_BUFFER_OVERFLOW" },
		{ STATUS_UNSUCCESSFUL, "STATUS_UNSUCCESSFUL" },
		{ STATUS_INVALID_HANDLE, "STATUS_INVALID_HANDLE" },
		{ STATUS_INVALID_PARAMETER, "STATUS_INVALID_PARAMETER" },
		{ STATUS_NO_SUCH_DEVICE, "STATUS_NO_SUCH_DEVICE" },
		{ STATUS_INVALID_DEVICE_REQUEST, "STATUS_INVALID_DEVICE_REQUEST" },
		{ STATUS_ACCESS_DENIED, "STATUS_ACCESS_DENIED" },
		{ STATUS_BUFFER_TOO_SMALL, "STATUS_BUFFER_TOO_SMALL" },
		{ STATUS_OBJECT_NAME_INVALID, "STATUS_OBJECT_NAME_INVALID" },
		{ STATUS_OBJECT_NAME_NOT_FOUND, "STATUS_OBJECT_NAME_NOT_FOUND" },
		{ STATUS_INSUFFICIENT_RESOURCES, "STATUS_INSUFFICIENT_RESOURCES" },
		{ STATUS_DEVICE_NOT_CONNECTED, "STATUS_DEVICE_NOT_CONNECTED" },
		{ STATUS_NOT_SUPPORTED, "STATUS_NOT_SUPPORTED" },
		{ STATUS_CANCELLED, "STATUS_CANCELLED" },
		{ STATUS_INVALID_DEVICE_STATE, "STATUS_INVALID_DEVICE_STATE" },
		{ STATUS_DEVICE_REMOVED, "STATUS_DEVICE_REMOVED" },
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (names[i].status == status)
			return names[i].name;
	}
	return "";
}

/* ---- input and output -------------------------------------------------------------------------------------------- */

static bool
read_hex(const char *text, char **out, size_t *bytes)
{
	size_t digits = 0;

	*out = calloc(1, strlen(text) / 2 + 1);
	if (*out == NULL)
		return false;
	for (; *text != '\0'; text++) {
		const char *hex = "0123456789abcdef", *digit;

		if (isspace((unsigned char)*text) || *text == ':' || *text == ',')
			continue;
		digit = strchr(hex, tolower((unsigned char)*text));
		if (digit == NULL)
			return false;
		(*out)[digits / 2] = (char)((*out)[digits / 2] << 4 | (digit - hex));
		digits++;
	}
	*bytes = digits / 2;
	return digits % 2 == 0;
}

static bool
read_file(const char *path, char **out, size_t *bytes)
{
	FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
	bool ok;

	if (file == NULL) {
		fprintf(stderr, "kmcl ioctl: cannot read %s: %s\n", path, strerror(errno));
		return false;
	}
	*out = malloc(IO_WIRE_BYTES_MAX + 1);
	*bytes = *out != NULL ? fread(*out, 1, IO_WIRE_BYTES_MAX + 1, file) : 0;
	ok = *out != NULL && ferror(file) == 0 && *bytes <= IO_WIRE_BYTES_MAX;
	if (!ok)
		fprintf(stderr, "kmcl ioctl: %s: %s\n", path,
		        *bytes > IO_WIRE_BYTES_MAX ? "more than 16 MiB" : "cannot be read");
	if (file != stdin)
		fclose(file);
	return ok;
}

static bool
parse_number(const char *text, uint32_t *value)
{
	char *end;
	unsigned long long number;

	errno = 0;
	number = strtoull(text, &end, 0);
	if (end == text || *end != '\0' || errno != 0 || number > UINT32_MAX)
		return false;
	*value = (uint32_t)number;
	return true;
}

static bool
parse_code(const char *text, ULONG *code)
{
	uint32_t parts[4];
	char copy[64];
	char *at = copy;

	if (strchr(text, ',') == NULL)
		return parse_number(text, code);
	if (strlen(text) >= sizeof(copy))
		return false;
	strcpy(copy, text);
	for (int i = 0; i < 4; i++) {
		char *part = strsep(&at, ",");

		if (part == NULL || !parse_number(part, &parts[i]))
			return false;
	}
	if (at != NULL || parts[0] > 0xFFFF || parts[1] > 0xFFF || parts[2] > 3 || parts[3] > 3)
		return false;
	*code = CTL_CODE(parts[0], parts[1], parts[2], parts[3]);
	return true;
}

static void
print_hex(const unsigned char *bytes, uint32_t count)
{
	for (uint32_t line = 0; line < count; line += 16) {
		printf("%04x ", line);
		for (uint32_t i = line; i < line + 16; i++) {
			if (i < count)
				printf(" %02x", bytes[i]);
			else
				printf("   ");
		}
		printf("  ");
		for (uint32_t i = line; i < line + 16 && i < count; i++)
			putchar(isprint(bytes[i]) ? bytes[i] : '.');
		putchar('\n');
	}
}

static bool
put_output(const struct command *command, const char *output, uint32_t bytes)
{
	FILE *file;
	bool ok;

	if (command->output_path == NULL && command->format == FORMAT_HEX) {
		print_hex((const unsigned char *)output, bytes);
		return true;
	}
	if (command->output_path == NULL)
		return fwrite(output, 1, bytes, stdout) == bytes && fflush(stdout) == 0;
	file = fopen(command->output_path, "we");
	ok = file != NULL && fwrite(output, 1, bytes, file) == bytes;
	if (file != NULL)
		ok = fclose(file) == 0 && ok;
	if (!ok)
		fprintf(stderr, "kmcl ioctl: cannot write %s: %s\n", command->output_path, strerror(errno));
	return ok;
}

/* ---- the connection ------------------------------------------------------------------------------------------------ */

static int
connect_to(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || strlen(path) >= sizeof(address.sun_path)) {
		if (fd >= 0)
			close(fd);
		return -1;
	}
	strcpy(address.sun_path, path);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	close(fd);
	return -1;
}

/* False: the other side hung up. *output is allocated. */
static bool
exchange(int fd, const struct io_wire_request *request, const void *input, NTSTATUS *status, char **output,
         uint32_t *bytes)
{
	struct io_wire_answer head;

	*output = NULL;
	if (!io_wire_send(fd, request, sizeof(*request)) || !io_wire_send(fd, input, request->input_bytes) ||
	    !io_wire_receive(fd, &head, sizeof(head)) || head.magic != IO_WIRE_MAGIC ||
	    head.output_bytes > IO_WIRE_BYTES_MAX)
		return false;
	*status = head.status;
	*bytes = head.output_bytes;
	*output = malloc((size_t)head.output_bytes + 1);
	return *output != NULL && io_wire_receive(fd, *output, head.output_bytes);
}

static bool
open_device(int fd, const char *name, NTSTATUS *status)
{
	const struct io_wire_request request = {
		.magic = IO_WIRE_MAGIC,
		.kind = IO_WIRE_OPEN,
		.input_bytes = (uint32_t)strlen(name),
	};
	uint32_t bytes;
	char *output;
	bool ok = exchange(fd, &request, name, status, &output, &bytes);

	free(output);
	return ok;
}

/* Each process that runs a driver on this bus has a socket beside it. */
static bool
find_sockets(const struct command *command, glob_t *found)
{
	char pattern[256];

	if (command->control_path != NULL)
		return glob(command->control_path, GLOB_NOCHECK, NULL, found) == 0;
	snprintf(pattern, sizeof(pattern), "%s.io.*", io_wire_beside(command->bus_path));
	return glob(pattern, 0, NULL, found) == 0;
}

/* The first process that has a device of this name. -1: said why. */
static int
find_device(const struct command *command)
{
	NTSTATUS status = STATUS_OBJECT_NAME_NOT_FOUND;
	glob_t found;
	int fd = -1, reached = 0;

	if (!find_sockets(command, &found)) {
		fprintf(stderr, "kmcl ioctl: no driver runs on %s\n", command->bus_path);
		return -1;
	}
	for (size_t i = 0; i < found.gl_pathc; i++) {
		NTSTATUS here;

		fd = connect_to(found.gl_pathv[i]);
		if (fd < 0)
			continue;
		reached++;
		if (open_device(fd, command->name, &here)) {
			if (NT_SUCCESS(here))
				break;
			if (here != STATUS_OBJECT_NAME_NOT_FOUND)
				status = here;
		}
		close(fd);
		fd = -1;
	}
	globfree(&found);
	if (fd < 0 && reached == 0)
		fprintf(stderr, "kmcl ioctl: no driver runs on %s\n",
		        command->control_path != NULL ? command->control_path : command->bus_path);
	else if (fd < 0)
		fprintf(stderr, "kmcl ioctl: cannot open %s: status 0x%08x %s\n", command->name, (unsigned)status,
		        status_name(status));
	return fd;
}

static int
send_control(const struct command *command)
{
	const struct io_wire_request request = {
		.magic = IO_WIRE_MAGIC,
		.kind = IO_WIRE_IOCTL,
		.code = command->code,
		.input_bytes = (uint32_t)command->input_bytes,
		.output_bytes = command->output_bytes,
		.handle_at = command->handle_at,
	};
	int fd = find_device(command), result = EXIT_FAILED;
	uint32_t bytes = 0;
	NTSTATUS status;
	char *output;

	if (fd < 0)
		return EXIT_FAILED;
	if (!exchange(fd, &request, command->input, &status, &output, &bytes)) {
		fprintf(stderr, "kmcl ioctl: the process that runs the driver is gone\n");
	} else {
		if (status != STATUS_SUCCESS)
			fprintf(stderr, "kmcl ioctl: status 0x%08x %s\n", (unsigned)status, status_name(status));
		if (put_output(command, output, bytes) && NT_SUCCESS(status))
			result = EXIT_OK;
	}
	free(output);
	close(fd);
	return result;
}

static int
list_names(const struct command *command)
{
	const struct io_wire_request request = { .magic = IO_WIRE_MAGIC, .kind = IO_WIRE_NAMES };
	int reached = 0;
	glob_t found;

	if (find_sockets(command, &found)) {
		for (size_t i = 0; i < found.gl_pathc; i++) {
			int fd = connect_to(found.gl_pathv[i]);
			uint32_t bytes;
			NTSTATUS status;
			char *output;

			if (fd < 0)
				continue;
			if (exchange(fd, &request, NULL, &status, &output, &bytes)) {
				reached++;
				fwrite(output, 1, bytes, stdout);
			}
			free(output);
			close(fd);
		}
		globfree(&found);
	}
	if (reached == 0)
		fprintf(stderr, "kmcl ioctl: no driver runs on %s\n",
		        command->control_path != NULL ? command->control_path : command->bus_path);
	return reached != 0 ? EXIT_OK : EXIT_FAILED;
}

/* ---- the command line ---------------------------------------------------------------------------------------------- */

static int
usage_error(const char *text, const char *word)
{
	fprintf(stderr, "kmcl ioctl: %s%s%s\n", text, word != NULL ? ": " : "", word != NULL ? word : "");
	print_usage(stderr);
	return EXIT_USAGE;
}

static int
go(struct command *command, int argc, char **argv)
{
	if ((command->bus_path == NULL) == (command->control_path == NULL))
		return usage_error("expected one of --bus and --control", NULL);
	if (command->list)
		return optind == argc ? list_names(command) : usage_error("--list stands alone", argv[optind]);
	if (optind + 2 != argc)
		return usage_error("expected a device and a control code", NULL);
	command->name = argv[optind];
	if (!parse_code(argv[optind + 1], &command->code))
		return usage_error("not a control code", argv[optind + 1]);
	if (command->input_bytes > IO_WIRE_BYTES_MAX || command->output_bytes > IO_WIRE_BYTES_MAX)
		return usage_error("more than 16 MiB of input or output", NULL);
	return send_control(command);
}

int
ioctl_main(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "bus", required_argument, NULL, 'b' },
		{ "control", required_argument, NULL, 'c' },
		{ "in", required_argument, NULL, 'i' },
		{ "in-text", required_argument, NULL, 't' },
		{ "in-file", required_argument, NULL, 'f' },
		{ "bus-handle-at", required_argument, NULL, 'a' },
		{ "out", required_argument, NULL, 'o' },
		{ "format", required_argument, NULL, 'm' },
		{ "out-file", required_argument, NULL, 'w' },
		{ "list", no_argument, NULL, 'l' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	struct command command = { .output_bytes = DEFAULT_OUTPUT, .handle_at = IO_WIRE_NO_HANDLE };
	int c, result = -1;

	while (result < 0 && (c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (c) {
		case 'b':
			command.bus_path = optarg;
			break;
		case 'c':
			command.control_path = optarg;
			break;
		case 'i':
		case 't':
		case 'f':
			free(command.input);
			command.input = NULL;
			if (c == 'i' && !read_hex(optarg, &command.input, &command.input_bytes))
				result = usage_error("not hexadecimal", optarg);
			if (c == 't') {
				command.input = strdup(optarg);
				command.input_bytes = strlen(optarg);
			}
			if (c == 'f' && !read_file(optarg, &command.input, &command.input_bytes))
				result = EXIT_FAILED;
			break;
		case 'a':
			if (!parse_number(optarg, &command.handle_at))
				result = usage_error("not a number", optarg);
			break;
		case 'o':
			if (!parse_number(optarg, &command.output_bytes))
				result = usage_error("not a number", optarg);
			break;
		case 'm':
			if (strcmp(optarg, "hex") != 0 && strcmp(optarg, "raw") != 0)
				result = usage_error("not a format", optarg);
			command.format = strcmp(optarg, "raw") == 0 ? FORMAT_RAW : FORMAT_HEX;
			break;
		case 'w':
			command.output_path = optarg;
			break;
		case 'l':
			command.list = true;
			break;
		case 'h':
			print_usage(stdout);
			result = EXIT_OK;
			break;
		default:
			print_usage(stderr);
			result = EXIT_USAGE;
			break;
		}
	}
	if (result < 0)
		result = go(&command, argc, argv);
	free(command.input);
	return result;
}
