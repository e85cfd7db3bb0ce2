/* SPDX-License-Identifier: MIT */
/* The key/value component as a driver. */
#include "ic_driver.h"
#include "kvp.h"

static NTSTATUS
kvp_driver_create(const struct ic_options *options, VOID **component)
{
	struct kvp_options kvp;

	RtlZeroMemory(&kvp, sizeof(kvp));
	kvp.ic = *options;
	return kvp_create(&kvp, (struct kvp **)component);
}

static VOID
kvp_driver_destroy(VOID *component)
{
	kvp_destroy((struct kvp *)component);
}

static VOID
kvp_driver_done(VOID *ctx, const struct kvp_result *result)
{
	struct ic_control *control = (struct ic_control *)ctx;

	control->status = result->status;
	if (result->text != NULL)
		control->status = ic_control_answer(control, result->text,
		                                    (ULONG)strlen(result->text));
	KeSetEvent(&control->done, IO_NO_INCREMENT, FALSE);
}

/* The text at *at, which is terminated in the buffer; *at is behind it then. NULL: there is none. */
static const char *
kvp_driver_text(const struct ic_control *control, ULONG *at)
{
	const char *text = (const char *)control->buffer + *at;
	ULONG end;

	for (end = *at; end < control->in_bytes; end++) {
		if (control->buffer[end] == 0) {
			*at = end + 1;
			return text;
		}
	}
	return NULL;
}

static NTSTATUS
kvp_driver_request(struct kvp *kvp, struct ic_control *control)
{
	const char *key, *value = NULL;
	UINT32 pool;
	ULONG at = sizeof(pool);
	NTSTATUS status;

	if (control->in_bytes < sizeof(pool))
		return STATUS_BUFFER_TOO_SMALL;
	RtlCopyMemory(&pool, control->buffer, sizeof(pool));
	key = kvp_driver_text(control, &at);
	if (key != NULL && control->code == IOCTL_KVP_SET)
		value = kvp_driver_text(control, &at);
	if (pool > KVP_POOL_AUTO_EXTERNAL || key == NULL ||
	    (control->code == IOCTL_KVP_SET && value == NULL))
		return STATUS_INVALID_PARAMETER;
	status = control->code == IOCTL_KVP_SET
	                 ? kvp_set_string(kvp, (enum kvp_pool)pool, key, value, kvp_driver_done,
	                                  control)
	                 : kvp_get(kvp, (enum kvp_pool)pool, key, kvp_driver_done, control);
	return NT_SUCCESS(status) ? STATUS_PENDING : status;
}

static NTSTATUS
kvp_driver_control(VOID *component, struct ic_control *control)
{
	struct kvp *kvp = (struct kvp *)component;
	struct kvp_state state;
	struct ic_state ic;

	switch (control->code) {
	case IOCTL_IC_QUERY:
		kvp_query(kvp, &state, &ic);
		return ic_control_answer(control, &ic, sizeof(ic));
	case IOCTL_KVP_QUERY:
		kvp_query(kvp, &state, NULL);
		return ic_control_answer(control, &state, sizeof(state));
	case IOCTL_KVP_SET:
	case IOCTL_KVP_GET:
		return kvp_driver_request(kvp, control);
	default:
		return STATUS_INVALID_DEVICE_REQUEST;
	}
}

const struct ic_driver ic_driver = {
	L"Kvp",
	kvp_driver_create,
	kvp_driver_destroy,
	kvp_driver_control,
};
