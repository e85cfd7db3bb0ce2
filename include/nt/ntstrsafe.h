/* SPDX-License-Identifier: MIT */
/*
 * Bounded copies of strings: RtlStringCb... counts bytes, RtlStringCch... characters; A is 8-bit
 * text, W 16-bit. The destination is always terminated when it has any room.
 * STATUS_INVALID_PARAMETER: no room at all, or more than NTSTRSAFE_MAX_CCH;
 * STATUS_BUFFER_OVERFLOW: the text was cut.
 *
 * The printf family is not provided: DbgPrint formats for the log, drivers need no more.
 */
#ifndef NT_NTSTRSAFE_H
#define NT_NTSTRSAFE_H

#include "ntdef.h"

#define NTSTRSAFE_MAX_CCH 2147483647u

#define NT_STRSAFE_GROUP(suffix, type)                                                             \
	NTSTRSAFEDDI RtlStringCchLength##suffix(const type *text, size_t most, size_t *length)     \
	{                                                                                          \
		size_t n = 0;                                                                      \
		if (length != NULL)                                                                \
			*length = 0;                                                               \
		if (text == NULL || most > NTSTRSAFE_MAX_CCH)                                      \
			return STATUS_INVALID_PARAMETER;                                           \
		while (n < most && text[n] != 0)                                                   \
			n++;                                                                       \
		if (n == most)                                                                     \
			return STATUS_INVALID_PARAMETER;                                           \
		if (length != NULL)                                                                \
			*length = n;                                                               \
		return STATUS_SUCCESS;                                                             \
	}                                                                                          \
	NTSTRSAFEDDI RtlStringCchCopyN##suffix(type *to, size_t room, const type *from,   \
	                                       size_t most)                                        \
	{                                                                                          \
		size_t n = 0;                                                                      \
		if (room == 0 || room > NTSTRSAFE_MAX_CCH)                                         \
			return STATUS_INVALID_PARAMETER;                                           \
		while (n < room - 1 && n < most && from[n] != 0) {                                 \
			to[n] = from[n];                                                           \
			n++;                                                                       \
		}                                                                                  \
		to[n] = 0;                                                                         \
		return n < most && from[n] != 0 ? STATUS_BUFFER_OVERFLOW : STATUS_SUCCESS;         \
	}                                                                                          \
	NTSTRSAFEDDI RtlStringCchCopy##suffix(type *to, size_t room, const type *from)             \
	{                                                                                          \
		return RtlStringCchCopyN##suffix(to, room, from, (size_t)-1);                      \
	}                                                                                          \
	NTSTRSAFEDDI RtlStringCchCat##suffix(type *to, size_t room, const type *from)              \
	{                                                                                          \
		size_t used;                                                                       \
		NTSTATUS status = RtlStringCchLength##suffix(to, room, &used);                     \
		if (!NT_SUCCESS(status))                                                           \
			return status;                                                             \
		return RtlStringCchCopy##suffix(to + used, room - used, from);                     \
	}                                                                                          \
	NTSTRSAFEDDI RtlStringCbLength##suffix(const type *text, size_t most, size_t *length)      \
	{                                                                                          \
		NTSTATUS status = RtlStringCchLength##suffix(text, most / sizeof(type), length);   \
		if (length != NULL)                                                                \
			*length *= sizeof(type);                                                   \
		return status;                                                                     \
	}                                                                                          \
	NTSTRSAFEDDI RtlStringCbCopyN##suffix(type *to, size_t room, const type *from,   \
	                                       size_t most)                                        \
	{                                                                                          \
		return RtlStringCchCopyN##suffix(to, room / sizeof(type), from,                    \
		                                 most / sizeof(type));                             \
	}                                                                                          \
	NTSTRSAFEDDI RtlStringCbCopy##suffix(type *to, size_t room, const type *from)              \
	{                                                                                          \
		return RtlStringCchCopy##suffix(to, room / sizeof(type), from);                    \
	}                                                                                          \
	NTSTRSAFEDDI RtlStringCbCat##suffix(type *to, size_t room, const type *from)               \
	{                                                                                          \
		return RtlStringCchCat##suffix(to, room / sizeof(type), from);                     \
	}

NT_STRSAFE_GROUP(A, CHAR)
NT_STRSAFE_GROUP(W, WCHAR)
#undef NT_STRSAFE_GROUP

#endif
