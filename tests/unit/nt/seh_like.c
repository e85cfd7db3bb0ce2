/* SPDX-License-Identifier: MIT */
/*
 * Guarded bodies as drivers write them (KE-15). Compiled, never run, by headers_test.sh; LEAVE_BY
 * is put where the guarded body must not be left.
 */
#include <ntddk.h>

#ifdef __cplusplus
extern "C" {
#endif
VOID DriverWork(PVOID Context);
LONG DriverGuarded(LONG Count);
#ifdef __cplusplus
}
#endif

LONG
DriverGuarded(LONG Count)
{
	LONG order = 0;

	while (Count-- > 0) {
		__try {
			LONG numbers[10];

			/* These stay inside the body. */
			for (int i = 0; i < 10; i++) {
				if (i == Count)
					break;
				if (i == 3)
					continue;
				numbers[i] = i;
				DriverWork(&numbers[i]);
			}
			switch (Count) {
			case 1:
				break;
			default:
				order++;
			}
			if (order == 4)
				goto inside;
			__try {
				DriverWork(&order);
			} __finally {
				order++;
			}
			__try {
				DriverWork(&order);
			} __except (EXCEPTION_EXECUTE_HANDLER) {
				order = (LONG)GetExceptionCode();
			}
inside:
			DriverWork(&order);
#ifdef LEAVE_BY
			if (order == 5)
				LEAVE_BY;
#endif
		} __finally {
			order += AbnormalTermination() ? 1 : 10;
		}

		/* Nothing is skipped here. */
		__try {
			DriverWork(&order);
			if (order == 6)
				continue;
			if (order == 7)
				break;
			if (order == 8)
				return 8;
		} __except (GetExceptionCode() == (ULONG)STATUS_ACCESS_VIOLATION
			    ? EXCEPTION_EXECUTE_HANDLER
			    : EXCEPTION_CONTINUE_SEARCH) {
			return -1;
		}
		if (order == 9)
			goto out;
	}
out:
	return order;
}
