/* SPDX-License-Identifier: MIT */
/* From mapped rings and a doorbell to a channel that can carry packets, and back. */
#include <string.h>

#include "kmcl/kmcl_fsm.h"
#include "kmcl/kmcl_loop.h"
#include "kmcl/kmcl_reserve.h"
#include "kmcl/kmcl_role.h"
#include "kmcl/kmcl_rx.h"

/* Only we move our indices, so nobody moved them while the channel was saved; tx.lock. */
static bool
stands_as_saved(const struct kmcl_channel *ch)
{
	return ch->tx.ring.in == ch->link.resume_out && ch->rx.ring.out == ch->link.resume_in;
}

NTSTATUS
kmcl_link_up(struct kmcl_channel *ch)
{
	struct kmcl_link *link = &ch->link;
	struct kmcl_loop *loop = ch->config.loop != NULL ? ch->config.loop
	                         : link->loop != NULL    ? link->loop
	                                                 : kmcl_loop_default();
	/*
	 * What a saved state says of its rings is part of it, so it is the state that is damaged
	 * then (RFB-3).
	 */
	NTSTATUS unusable = link->resumes ? STATUS_INVALID_PARAMETER_2 : STATUS_UNSUCCESSFUL;
	const struct vmb_ring_local *local = vmb_port_local(link->port);
	enum vmb_status status;

	if (loop == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	/* Answers can be as large as the ring; reserved now so that one never fails for memory. */
	if (ch->rx.scratch_bytes < link->in_bytes) {
		kmcl_unreserve(ch->rx.scratch, ch->rx.scratch_bytes);
		ch->rx.scratch = kmcl_reserve(link->in_bytes);
		ch->rx.scratch_bytes = ch->rx.scratch != NULL ? link->in_bytes : 0;
		if (ch->rx.scratch == NULL)
			return STATUS_INSUFFICIENT_RESOURCES;
	}
	pthread_mutex_lock(&ch->rx.owner);
	status = vmb_ring_rx_init(&ch->rx.ring, link->in_ctl, link->in_data, link->in_bytes);
	/* Refused: it makes its barriers, and what a former user of this end said was seen long ago, system calls before. */
	if (status == VMB_OK && local != NULL)
		(void)vmb_ring_rx_set_local(&ch->rx.ring, local);
	pthread_mutex_unlock(&ch->rx.owner);
	if (status != VMB_OK)
		return unusable;
	vmb_lock_take(&ch->tx.lock);
	status = vmb_ring_tx_init(&ch->tx.ring, link->out_ctl, link->out_data, link->out_bytes);
	if (status == VMB_OK && link->resumes && !stands_as_saved(ch))
		status = VMB_E_CORRUPT;
	if (status == VMB_OK) {
		if (local != NULL)
			(void)vmb_ring_tx_set_local(&ch->tx.ring, local);
		ch->tx.attached = true;
		ch->tx.unpublished = 0;
		ch->tx.armed = false;
		ch->tx.largest_body = vmb_ring_largest_body(link->out_bytes);
	}
	vmb_lock_give(&ch->tx.lock);
	if (status != VMB_OK)
		return unusable;
	if (kmcl_loop_add(loop, ch, link->doorbell.wait_fd) == VMB_OK)
		return STATUS_SUCCESS;
	vmb_lock_take(&ch->tx.lock);
	ch->tx.attached = false;
	vmb_lock_give(&ch->tx.lock);
	return STATUS_INSUFFICIENT_RESOURCES;
}

void
kmcl_link_down(struct kmcl_channel *ch)
{
	vmb_lock_take(&ch->tx.lock);
	ch->tx.attached = false;
	if (ch->config.is_server)
		ch->tx.largest_body = 0;
	vmb_lock_give(&ch->tx.lock);
	if (ch->loop != NULL)
		kmcl_loop_remove(ch, ch->link.doorbell.wait_fd);
	/*
	 * Processing was stopped before. Who is just leaving it is waited for here, because the
	 * link goes now and the loop may go once the channel is Disabled: pollers, the passive
	 * context, threads that ended the last packets.
	 */
	pthread_mutex_lock(&ch->rx.owner);
	pthread_mutex_unlock(&ch->rx.owner);
	kmcl_bell_close(&ch->rx.bell);
	kmcl_strand_quiesce(&ch->rx.passive);
	kmcl_rx_wait_for_releases(ch);
	ch->loop = NULL;
	atomic_store(&ch->target_vp, 0);
	vmb_mem_unref(ch->link.memory);
	memset(&ch->link, 0, sizeof(ch->link));
}
