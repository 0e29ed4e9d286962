/* lock_missing.c - stands for the peers that were not there when the bench was configured: rows name them as missing.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "lock.h"

#define NO_BOOST "needs libboost-dev and a C++ compiler"
#define NO_QT "needs qtbase5-dev and a C++ compiler"

#ifndef BENCH_BOOST
const struct lock_way way_boost_mutex = {.name = "boost mutex", .missing = NO_BOOST};
const struct lock_way way_boost_named_mutex = {.name = "boost named mutex", .missing = NO_BOOST};
const struct lock_way way_boost_semaphore = {.name = "boost semaphore", .missing = NO_BOOST};
const struct lock_way way_boost_named_semaphore = {.name = "boost named sem", .missing = NO_BOOST};
const struct lock_way way_boost_upgradable = {.name = "boost upgradable", .missing = NO_BOOST};
const struct lock_way way_boost_named_upgradable = {.name = "boost named upgr.", .missing = NO_BOOST};
const struct lock_way way_boost_read = {.name = "boost upgradable", .missing = NO_BOOST};
const struct lock_way way_boost_named_read = {.name = "boost named upgr.", .missing = NO_BOOST};
const struct lock_way way_boost_mixed = {.name = "boost upgradable", .missing = NO_BOOST};
#endif

#ifndef BENCH_QT
const struct lock_way way_qt = {.name = "Qt semaphore", .missing = NO_QT};
#endif
