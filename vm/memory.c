/* SPDX-License-Identifier: MIT */
/* Guest RAM: a memfd, so that another process can serve the guest from where its data lies. */
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "machine.h"

enum vmb_status
machine_memory_create(uint64_t bytes, struct vmb_mem **memory)
{
	struct vmb_region region = { .bytes = bytes, .owned = true, .fd = -1 };
	enum vmb_status status = VMB_E_IO;

	region.fd = memfd_create("guest-ram", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (region.fd < 0)
		return VMB_E_IO;
	region.host = MAP_FAILED;
	if (ftruncate(region.fd, (off_t)bytes) != 0 ||
	    fcntl(region.fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
		goto fail;
	region.host = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, region.fd, 0);
	if (region.host == MAP_FAILED)
		goto fail;
	/* Where the system permits it (transparent_hugepage/shmem_enabled): a page fault of a guest is dear. */
	(void)madvise(region.host, bytes, MADV_HUGEPAGE);
	status = vmb_mem_create(memory);
	if (status != VMB_OK)
		goto fail;
	status = vmb_mem_add_region(*memory, &region);
	if (status == VMB_OK)
		return VMB_OK;
	vmb_mem_unref(*memory);

fail:
	if (region.host != MAP_FAILED)
		munmap(region.host, bytes);
	close(region.fd);
	return status;
}
