/* SPDX-License-Identifier: MIT */
/*
 * The RtlString functions of one character width; nt_strsafe.c includes this twice. The including
 * file defines
 *
 *   TYPE            the character
 *   NAME(x)         x with the suffix of the width
 *   FORMAT          the formatter: bool (TYPE *, size_t room, size_t *used, const TYPE *, va_list)
 *
 * One function appends and one formats; all the others are these with less to say.
 */

/* How much room the caller gave, and how many of his counts are one character. */
struct NAME(count) {
	size_t room;
	size_t per;
};

/* The result so far: `used` characters of `to`, which has room for `room`, terminator included. */
struct NAME(target) {
	TYPE *to;
	size_t room;
	size_t before;          /* characters that were there already */
	size_t used;
	ULONG flags;
};

static NTSTATUS
NAME(text_units)(const TYPE *text, size_t most, size_t *length)
{
	size_t n = 0;

	while (n < most && text[n] != 0)
		n++;
	*length = n;
	return n < most ? STATUS_SUCCESS : STATUS_INVALID_PARAMETER;
}

/* Without room there is nothing to write to, which has to be allowed. */
static NTSTATUS
NAME(target_open)(struct NAME(target) *t, TYPE *to, size_t room, bool appends, ULONG flags)
{
	*t = (struct NAME(target)){ .to = to, .room = room, .flags = flags };
	if (room > NTSTRSAFE_MAX_CCH || (flags & ~STRSAFE_FLAGS) != 0)
		return STATUS_INVALID_PARAMETER;
	if (room == 0)
		return (flags & STRSAFE_IGNORE_NULLS) != 0 && (to == NULL || !appends)
			   ? STATUS_SUCCESS
			   : STATUS_INVALID_PARAMETER;
	if (to == NULL || (appends && !NT_SUCCESS(NAME(text_units)(to, room, &t->before))))
		return STATUS_INVALID_PARAMETER;
	t->used = t->before;
	return STATUS_SUCCESS;
}

static void
NAME(target_fill)(struct NAME(target) *t)
{
	memset(t->to, (int)(t->flags & 0xFF), t->room * sizeof(TYPE));
	t->used = (t->flags & 0xFF) == 0 ? 0 : t->room - 1;
	t->to[t->used] = 0;
}

static void
NAME(target_flags)(struct NAME(target) *t, NTSTATUS status)
{
	if (NT_SUCCESS(status)) {
		if ((t->flags & STRSAFE_FILL_BEHIND_NULL) != 0)
			memset(t->to + t->used + 1, (int)(t->flags & 0xFF),
			       (t->room - t->used - 1) * sizeof(TYPE));
		return;
	}
	if ((t->flags & STRSAFE_NO_TRUNCATION) != 0)
		t->to[t->used = t->before] = 0;
	if ((t->flags & STRSAFE_FILL_ON_FAILURE) != 0)
		NAME(target_fill)(t);
	if ((t->flags & STRSAFE_NULL_ON_FAILURE) != 0)
		t->to[t->used = 0] = 0;
}

/* Terminate, apply the flags, and say where the text ends. */
static NTSTATUS
NAME(target_close)(struct NAME(target) *t, NTSTATUS status, const struct NAME(count) *count,
		   TYPE **end, size_t *left)
{
	if (t->room != 0) {
		t->to[t->used] = 0;
		NAME(target_flags)(t, status);
	}
	if (status == STATUS_INVALID_PARAMETER)
		return status;
	if (end != NULL)
		*end = t->to != NULL ? t->to + t->used : NULL;
	if (left != NULL)
		*left = (t->room - t->used) * count->per + count->room % count->per;
	return status;
}

static NTSTATUS
NAME(text_put)(TYPE *to, struct NAME(count) count, const TYPE *from, size_t most, bool appends,
	       TYPE **end, size_t *left, ULONG flags)
{
	const size_t room = count.room / count.per;
	struct NAME(target) t;
	NTSTATUS status = NAME(target_open)(&t, to, room, appends, flags);
	size_t n = 0;

	if (!NT_SUCCESS(status))
		return status;
	if (most != STRSAFE_ALL)
		most /= count.per;
	if ((from == NULL && (flags & STRSAFE_IGNORE_NULLS) == 0) ||
	    (most != STRSAFE_ALL && most > NTSTRSAFE_MAX_CCH))
		return NAME(target_close)(&t, STATUS_INVALID_PARAMETER, &count, end, left);
	if (from == NULL)
		most = 0;
	for (; room != 0 && t.used < room - 1 && n < most && from[n] != 0; n++)
		to[t.used++] = from[n];
	if (n < most && from[n] != 0)
		status = to != NULL ? STATUS_BUFFER_OVERFLOW : STATUS_INVALID_PARAMETER;
	return NAME(target_close)(&t, status, &count, end, left);
}

static NTSTATUS
NAME(text_format)(TYPE *to, struct NAME(count) count, TYPE **end, size_t *left, ULONG flags,
		  const TYPE *format, va_list args, const char *what)
{
	const size_t room = count.room / count.per;
	struct NAME(target) t;
	NTSTATUS status = NAME(target_open)(&t, to, room, false, flags);
	TYPE nowhere[1];

	(void)nt_irql_check_at_most(APC_LEVEL, what);
	if (!NT_SUCCESS(status))
		return status;
	if (format == NULL)
		status = (flags & STRSAFE_IGNORE_NULLS) != 0 ? STATUS_SUCCESS
							     : STATUS_INVALID_PARAMETER;
	else if (!FORMAT(room != 0 ? to : nowhere, room != 0 ? room - 1 : 0, &t.used, format, args))
		status = to != NULL ? STATUS_BUFFER_OVERFLOW : STATUS_INVALID_PARAMETER;
	return NAME(target_close)(&t, status, &count, end, left);
}

static NTSTATUS
NAME(text_length)(const TYPE *text, struct NAME(count) most, size_t *length)
{
	NTSTATUS status = STATUS_INVALID_PARAMETER;
	size_t n = 0;

	if (text != NULL && most.room / most.per <= NTSTRSAFE_MAX_CCH)
		status = NAME(text_units)(text, most.room / most.per, &n);
	if (length != NULL)
		*length = NT_SUCCESS(status) ? n * most.per : 0;
	return status;
}

/* The documented functions of one way to count. PER: how many of it are one character. */
#define STRSAFE_FUNCTIONS(Count, PER)                                                              \
	NTSTATUS NAME(RtlString##Count##Length)(const TYPE *text, size_t most, size_t *length)     \
	{                                                                                          \
		return NAME(text_length)(text, (struct NAME(count)){ most, PER }, length);         \
	}                                                                                          \
	NTSTATUS NAME(RtlString##Count##CopyNEx)(TYPE *to, size_t room, const TYPE *from,          \
						 size_t most, TYPE **end, size_t *left,            \
						 ULONG flags)                                      \
	{                                                                                          \
		return NAME(text_put)(to, (struct NAME(count)){ room, PER }, from,                 \
				      STRSAFE_BOUND(most), false, end, left, flags);               \
	}                                                                                          \
	NTSTATUS NAME(RtlString##Count##CopyEx)(TYPE *to, size_t room, const TYPE *from,           \
						TYPE **end, size_t *left, ULONG flags)             \
	{                                                                                          \
		return NAME(text_put)(to, (struct NAME(count)){ room, PER }, from, STRSAFE_ALL,    \
				      false, end, left, flags);                                    \
	}                                                                                          \
	NTSTATUS NAME(RtlString##Count##CatNEx)(TYPE *to, size_t room, const TYPE *from,           \
						size_t most, TYPE **end, size_t *left,             \
						ULONG flags)                                       \
	{                                                                                          \
		return NAME(text_put)(to, (struct NAME(count)){ room, PER }, from,                 \
				      STRSAFE_BOUND(most), true, end, left, flags);                \
	}                                                                                          \
	NTSTATUS NAME(RtlString##Count##CatEx)(TYPE *to, size_t room, const TYPE *from,            \
					       TYPE **end, size_t *left, ULONG flags)              \
	{                                                                                          \
		return NAME(text_put)(to, (struct NAME(count)){ room, PER }, from, STRSAFE_ALL,    \
				      true, end, left, flags);                                     \
	}                                                                                          \
	NTSTATUS NAME(RtlString##Count##CopyN)(TYPE *to, size_t room, const TYPE *from,            \
					       size_t most)                                        \
	{                                                                                          \
		return NAME(RtlString##Count##CopyNEx)(to, room, from, most, NULL, NULL, 0);       \
	}                                                                                          \
	NTSTATUS NAME(RtlString##Count##Copy)(TYPE *to, size_t room, const TYPE *from)             \
	{                                                                                          \
		return NAME(RtlString##Count##CopyEx)(to, room, from, NULL, NULL, 0);              \
	}                                                                                          \
	NTSTATUS NAME(RtlString##Count##CatN)(TYPE *to, size_t room, const TYPE *from,             \
					      size_t most)                                         \
	{                                                                                          \
		return NAME(RtlString##Count##CatNEx)(to, room, from, most, NULL, NULL, 0);        \
	}                                                                                          \
	NTSTATUS NAME(RtlString##Count##Cat)(TYPE *to, size_t room, const TYPE *from)              \
	{                                                                                          \
		return NAME(RtlString##Count##CatEx)(to, room, from, NULL, NULL, 0);               \
	}                                                                                          \
	NTSTATUS NAME(RtlString##Count##VPrintfEx)(TYPE *to, size_t room, TYPE **end,              \
						   size_t *left, ULONG flags,                      \
						   const TYPE *format, va_list args)               \
	{                                                                                          \
		return NAME(text_format)(to, (struct NAME(count)){ room, PER }, end, left, flags,  \
					 format, args, "RtlString" #Count "VPrintfEx");            \
	}                                                                                          \
	NTSTATUS NAME(RtlString##Count##VPrintf)(TYPE *to, size_t room, const TYPE *format,        \
						 va_list args)                                     \
	{                                                                                          \
		return NAME(text_format)(to, (struct NAME(count)){ room, PER }, NULL, NULL, 0,     \
					 format, args, "RtlString" #Count "VPrintf");              \
	}                                                                                          \
	NTSTATUS NAME(RtlString##Count##PrintfEx)(TYPE *to, size_t room, TYPE **end, size_t *left, \
						  ULONG flags, const TYPE *format, ...)            \
	{                                                                                          \
		NTSTATUS status;                                                                   \
		va_list args;                                                                      \
                                                                                                   \
		va_start(args, format);                                                            \
		status = NAME(text_format)(to, (struct NAME(count)){ room, PER }, end, left,       \
					   flags, format, args,                                    \
					   "RtlString" #Count "PrintfEx");                         \
		va_end(args);                                                                      \
		return status;                                                                     \
	}                                                                                          \
	NTSTATUS NAME(RtlString##Count##Printf)(TYPE *to, size_t room, const TYPE *format, ...)    \
	{                                                                                          \
		NTSTATUS status;                                                                   \
		va_list args;                                                                      \
                                                                                                   \
		va_start(args, format);                                                            \
		status = NAME(text_format)(to, (struct NAME(count)){ room, PER }, NULL, NULL, 0,   \
					   format, args, "RtlString" #Count "Printf");             \
		va_end(args);                                                                      \
		return status;                                                                     \
	}

STRSAFE_FUNCTIONS(Cch, 1)
STRSAFE_FUNCTIONS(Cb, sizeof(TYPE))
#undef STRSAFE_FUNCTIONS
