/* SPDX-License-Identifier: MIT */
/*
 * How far apart two CPUs are just now. Virtual machines move between near and far cores within
 * seconds, and what two threads do with each other follows; so runs are bracketed by this, and
 * those in which it changed are left out.
 */
#ifndef BENCH_LINE_H
#define BENCH_LINE_H

/* Median time of a cache line's way to another CPU and back; 0 where there is one CPU only. */
double bench_line_ns(void);

#endif
