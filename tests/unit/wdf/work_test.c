/* SPDX-License-Identifier: MIT */
/* Work items and timers. */
#include "t_queue.h"

/* ---- work items ------------------------------------------------------------------------------ */

static KEVENT work_done, work_go;
static volatile LONG work_runs;

static VOID
work_function(WDFWORKITEM work)
{
	assert_int_equal(KeGetCurrentIrql(), PASSIVE_LEVEL);
	assert_ptr_equal(WdfWorkItemGetParentObject(work), t_dev);
	InterlockedIncrement(&work_runs);
	assert_misuse(WdfWorkItemFlush(work));
	KeSetEvent(&work_done, IO_NO_INCREMENT, FALSE);
	t_await(&work_go);
}

static void
a_work_item_runs_once_for_many_wishes(void **state)
{
	WDF_OBJECT_ATTRIBUTES attributes;
	WDF_WORKITEM_CONFIG work_config;
	struct t_wdf t;
	WDFWORKITEM work;
	KIRQL irql;

	CONF_COVERS("KE-17");
	(void)state;
	config.EvtIoDefault = log_default;
	begin(&t);
	KeInitializeEvent(&work_done, SynchronizationEvent, FALSE);
	KeInitializeEvent(&work_go, NotificationEvent, FALSE);
	WDF_WORKITEM_CONFIG_INIT(&work_config, work_function);
	WDF_OBJECT_ATTRIBUTES_INIT(&attributes);
	attributes.ParentObject = t_dev;
	assert_int_equal(WdfWorkItemCreate(&work_config, &attributes, &work), STATUS_SUCCESS);
	irql = KeRaiseIrqlToDpcLevel();
	WdfWorkItemEnqueue(work);
	KeLowerIrql(irql);
	t_await(&work_done);
	/* It runs: both wishes are for one more run. */
	WdfWorkItemEnqueue(work);
	WdfWorkItemEnqueue(work);
	KeSetEvent(&work_go, IO_NO_INCREMENT, FALSE);
	WdfWorkItemFlush(work);
	assert_int_equal(work_runs, 2);
	/* The device waits for it when it goes. */
	WdfWorkItemEnqueue(work);
	end(&t);
	assert_int_equal(work_runs, 3);
}

static void
a_serialized_work_item_needs_a_passive_scope(void **state)
{
	WDF_OBJECT_ATTRIBUTES attributes;
	WDF_WORKITEM_CONFIG work_config;
	struct t_wdf t;
	WDFWORKITEM work;

	(void)state;
	device_attributes.SynchronizationScope = WdfSynchronizationScopeDevice;
	config.EvtIoDefault = log_default;
	begin(&t);
	WDF_WORKITEM_CONFIG_INIT(&work_config, work_function);
	WDF_OBJECT_ATTRIBUTES_INIT(&attributes);
	attributes.ParentObject = t_dev;
	assert_int_equal(WdfWorkItemCreate(&work_config, &attributes, &work),
			 STATUS_WDF_INCOMPATIBLE_EXECUTION_LEVEL);
	work_config.AutomaticSerialization = FALSE;
	assert_int_equal(WdfWorkItemCreate(&work_config, &attributes, &work), STATUS_SUCCESS);
	end(&t);
}

static VOID
delete_itself(WDFWORKITEM work)
{
	InterlockedIncrement(&work_runs);
	WdfWorkItemEnqueue(work);
	WdfObjectDelete(work);
	WdfWorkItemEnqueue(work);
}

static VOID
work_is_gone(WDFOBJECT work)
{
	UNREFERENCED_PARAMETER(work);
	KeSetEvent(&work_done, IO_NO_INCREMENT, FALSE);
}

static void
a_work_item_may_delete_itself_though_it_is_queued_again(void **state)
{
	WDF_OBJECT_ATTRIBUTES attributes;
	WDF_WORKITEM_CONFIG work_config;
	struct t_wdf t;
	WDFWORKITEM work;

	(void)state;
	config.EvtIoDefault = log_default;
	begin(&t);
	work_runs = 0;
	KeInitializeEvent(&work_done, SynchronizationEvent, FALSE);
	WDF_WORKITEM_CONFIG_INIT(&work_config, delete_itself);
	WDF_OBJECT_ATTRIBUTES_INIT(&attributes);
	attributes.ParentObject = t_dev;
	attributes.EvtDestroyCallback = work_is_gone;
	assert_int_equal(WdfWorkItemCreate(&work_config, &attributes, &work), STATUS_SUCCESS);
	WdfWorkItemEnqueue(work);
	t_await(&work_done);
	assert_int_equal(work_runs, 1);
	end(&t);
}

/* ---- timers ---------------------------------------------------------------------------------- */

static KEVENT ticked;
static volatile LONG ticks;
static KIRQL tick_level;

static VOID
tick(WDFTIMER timer)
{
	tick_level = KeGetCurrentIrql();
	assert_ptr_equal(WdfTimerGetParentObject(timer), t_dev);
	if (InterlockedIncrement(&ticks) == 3)
		(void)WdfTimerStop(timer, FALSE);
	KeSetEvent(&ticked, IO_NO_INCREMENT, FALSE);
}

static void
timers_run_at_the_level_of_their_execution(void **state)
{
	static const WDF_EXECUTION_LEVEL levels[] = { WdfExecutionLevelDispatch, WdfExecutionLevelPassive };

	CONF_COVERS("KE-17");
	(void)state;
	for (size_t i = 0; i < RTL_NUMBER_OF(levels); i++) {
		WDF_OBJECT_ATTRIBUTES attributes;
		WDF_TIMER_CONFIG timer_config;
		struct t_wdf t;
		WDFTIMER timer;

		reset(NULL);
		config.EvtIoDefault = log_default;
		begin(&t);
		KeInitializeEvent(&ticked, SynchronizationEvent, FALSE);
		ticks = 0;
		WDF_OBJECT_ATTRIBUTES_INIT(&attributes);
		attributes.ParentObject = t_dev;
		attributes.ExecutionLevel = levels[i];
		WDF_TIMER_CONFIG_INIT(&timer_config, tick);
		assert_int_equal(WdfTimerCreate(&timer_config, &attributes, &timer), STATUS_SUCCESS);
		assert_false(WdfTimerStop(timer, TRUE));
		assert_false(WdfTimerStart(timer, WDF_REL_TIMEOUT_IN_SEC(1000)));
		assert_true(WdfTimerStart(timer, WDF_REL_TIMEOUT_IN_SEC(1000)));
		assert_true(WdfTimerStop(timer, TRUE));
		assert_false(WdfTimerStart(timer, WDF_REL_TIMEOUT_IN_MS(1)));
		t_await(&ticked);
		assert_int_equal(tick_level, levels[i] == WdfExecutionLevelPassive ? PASSIVE_LEVEL : DISPATCH_LEVEL);
		assert_false(WdfTimerStop(timer, TRUE));
		assert_int_equal(ticks, 1);
		WdfObjectDelete(timer);

		/* A periodic one, stopped by its own function at the third tick. */
		WDF_TIMER_CONFIG_INIT_PERIODIC(&timer_config, tick, 1);
		assert_int_equal(WdfTimerCreate(&timer_config, &attributes, &timer), STATUS_SUCCESS);
		(void)WdfTimerStart(timer, 0);
		while (InterlockedCompareExchange(&ticks, 0, 0) < 3)
			t_await(&ticked);
		/* One that runs goes with its device. */
		(void)WdfTimerStart(timer, WDF_REL_TIMEOUT_IN_SEC(1000));
		end(&t);
	}
}

static void
timers_are_checked(void **state)
{
	WDF_OBJECT_ATTRIBUTES attributes;
	WDF_TIMER_CONFIG timer_config;
	struct t_wdf t;
	WDFTIMER timer;

	(void)state;
	device_attributes.SynchronizationScope = WdfSynchronizationScopeDevice;
	config.EvtIoDefault = log_default;
	begin(&t);
	WDF_TIMER_CONFIG_INIT(&timer_config, tick);
	assert_int_equal(WdfTimerCreate(&timer_config, NULL, &timer), STATUS_WDF_PARENT_NOT_SPECIFIED);
	WDF_OBJECT_ATTRIBUTES_INIT(&attributes);
	attributes.ParentObject = t.handle;
	assert_int_equal(WdfTimerCreate(&timer_config, &attributes, &timer), STATUS_INVALID_DEVICE_REQUEST);
	attributes.ParentObject = t_dev;
	attributes.ExecutionLevel = WdfExecutionLevelPassive;
	assert_int_equal(WdfTimerCreate(&timer_config, &attributes, &timer),
			 STATUS_WDF_INCOMPATIBLE_EXECUTION_LEVEL);
	timer_config.Period = 0x80000000u;
	assert_int_equal(WdfTimerCreate(&timer_config, &attributes, &timer), STATUS_INVALID_PARAMETER);
	timer_config.Period = 0;
	timer_config.Size = 0;
	assert_int_equal(WdfTimerCreate(&timer_config, &attributes, &timer), STATUS_INFO_LENGTH_MISMATCH);
	timer_config.EvtTimerFunc = NULL;
	assert_int_equal(WdfTimerCreate(&timer_config, &attributes, &timer), STATUS_INVALID_PARAMETER);
	assert_misuse(assert_false(WdfTimerStart((WDFTIMER)(void *)t_dev, 0)));
	assert_misuse(assert_false(WdfTimerStop(NULL, FALSE)));
	end(&t);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(a_work_item_runs_once_for_many_wishes, reset),
		cmocka_unit_test_setup(a_work_item_may_delete_itself_though_it_is_queued_again, reset),
		cmocka_unit_test_setup(a_serialized_work_item_needs_a_passive_scope, reset),
		cmocka_unit_test_setup(timers_run_at_the_level_of_their_execution, reset),
		cmocka_unit_test_setup(timers_are_checked, reset),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
