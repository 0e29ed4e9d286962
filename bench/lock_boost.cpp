// lock_boost.cpp - Boost.Interprocess's ways to keep others out.
// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Named ones lie in shared memory of their own, or are named semaphores of the system; main.c removes the names. An
// exception ends the process, and the row with it.
#include "lock.h"

#include <boost/interprocess/sync/interprocess_mutex.hpp>
#include <boost/interprocess/sync/interprocess_semaphore.hpp>
#include <boost/interprocess/sync/interprocess_upgradable_mutex.hpp>
#include <boost/interprocess/sync/named_mutex.hpp>
#include <boost/interprocess/sync/named_semaphore.hpp>
#include <boost/interprocess/sync/named_upgradable_mutex.hpp>
#include <new>

namespace ipc = boost::interprocess;

namespace
{

template <class Lock, class... Arguments> int make_unnamed(struct lock_site *site, Arguments... arguments)
{
    new (site->memory) Lock(arguments...);
    return 0;
}

template <class Lock> int make_mutex(struct lock_site *site)
{
    return make_unnamed<Lock>(site);
}

int make_semaphore(struct lock_site *site)
{
    return make_unnamed<ipc::interprocess_semaphore>(site, 1);
}

template <class Lock, class... Arguments> void enter_named(struct lock_site *site, Arguments... arguments)
{
    site->handle = new Lock(ipc::open_or_create, site->name, arguments...);
}

template <class Lock> void enter_named_mutex(struct lock_site *site)
{
    enter_named<Lock>(site);
}

void enter_named_semaphore(struct lock_site *site)
{
    enter_named<ipc::named_semaphore>(site, 1);
}

template <class Lock> void leave_named(struct lock_site *site)
{
    delete static_cast<Lock *>(site->handle);
}

#define TAKE (handle->lock(), 0)
#define GIVE (handle->unlock(), 0)
#define TAKE_SHARED (handle->lock_sharable(), 0)
#define GIVE_SHARED (handle->unlock_sharable(), 0)
#define WAIT (handle->wait(), 0)
#define POST (handle->post(), 0)

LOCK_LOOPS(mutex, ipc::interprocess_mutex, TAKE, GIVE)
LOCK_LOOPS(named_mutex, ipc::named_mutex, TAKE, GIVE)
LOCK_LOOPS(semaphore, ipc::interprocess_semaphore, WAIT, POST)
LOCK_LOOPS(named_semaphore, ipc::named_semaphore, WAIT, POST)
LOCK_LOOPS(upgradable, ipc::interprocess_upgradable_mutex, TAKE, GIVE)
LOCK_LOOPS(named_upgradable, ipc::named_upgradable_mutex, TAKE, GIVE)
READ_LOOPS(read, ipc::interprocess_upgradable_mutex, TAKE_SHARED, GIVE_SHARED)
READ_LOOPS(named_read, ipc::named_upgradable_mutex, TAKE_SHARED, GIVE_SHARED)
MIXED_LOOP(mixed, ipc::interprocess_upgradable_mutex, TAKE, GIVE, TAKE_SHARED, GIVE_SHARED)

template <class Lock>
constexpr lock_way unnamed(const char *name, int (*make)(lock_site *), uint64_t (*alone)(void *, uint64_t),
                           uint64_t (*work)(void *, turn *))
{
    return {name, nullptr, sizeof(Lock), make, nullptr, alone, work, nullptr, nullptr};
}

template <class Lock>
constexpr lock_way named(const char *name, void (*enter)(lock_site *), uint64_t (*alone)(void *, uint64_t),
                         uint64_t (*work)(void *, turn *))
{
    return {name, nullptr, 0, nullptr, enter, alone, work, nullptr, leave_named<Lock>};
}

} // namespace

using upgradable_mutex = ipc::interprocess_upgradable_mutex;

const lock_way way_boost_mutex = unnamed<ipc::interprocess_mutex>("boost mutex", make_mutex<ipc::interprocess_mutex>,
                                                                  mutex_alone, mutex_work);
const lock_way way_boost_semaphore = unnamed<ipc::interprocess_semaphore>("boost semaphore", make_semaphore,
                                                                          semaphore_alone, semaphore_work);
const lock_way way_boost_upgradable = unnamed<upgradable_mutex>("boost upgradable", make_mutex<upgradable_mutex>,
                                                                upgradable_alone, upgradable_work);
const lock_way way_boost_read = unnamed<upgradable_mutex>("boost upgradable", make_mutex<upgradable_mutex>, read_alone,
                                                          read_work);
const lock_way way_boost_mixed = unnamed<upgradable_mutex>("boost upgradable", make_mutex<upgradable_mutex>, nullptr,
                                                           mixed_work);
const lock_way way_boost_named_mutex = named<ipc::named_mutex>("boost named mutex", enter_named_mutex<ipc::named_mutex>,
                                                               named_mutex_alone, named_mutex_work);
const lock_way way_boost_named_semaphore = named<ipc::named_semaphore>("boost named sem", enter_named_semaphore,
                                                                       named_semaphore_alone, named_semaphore_work);
const lock_way way_boost_named_upgradable = named<ipc::named_upgradable_mutex>(
    "boost named upgr.", enter_named_mutex<ipc::named_upgradable_mutex>, named_upgradable_alone, named_upgradable_work);
const lock_way way_boost_named_read = named<ipc::named_upgradable_mutex>(
    "boost named upgr.", enter_named_mutex<ipc::named_upgradable_mutex>, named_read_alone, named_read_work);
