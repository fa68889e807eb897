// SPDX-License-Identifier: Apache-2.0
// What Glibc's Swift module does not export. Linux only.
#pragma once
#include "cplatform_address.h"
#include "cplatform_files.h"
#include "cplatform_process.h"
#include "cplatform_sandbox.h"
#include "cplatform_standard.h"

#include <stddef.h>
#include <stdint.h>

/// A non-blocking, close-on-exec eventfd with counter 0; -1 and errno on failure.
int cp_eventfd(void);
/// Adds 1 to the eventfd's counter, so that a poll on it returns. Safe from any thread.
void cp_eventfd_signal(int fd);
/// Resets the counter to 0.
void cp_eventfd_drain(int fd);
/// Names the calling thread (at most 15 bytes are kept).
void cp_thread_name(const char *name);
/// Monotonic clock, nanoseconds.
uint64_t cp_monotonic_nanoseconds(void);
/// Anonymous zeroed memory, 2 MiB aligned and advised huge when large; NULL on failure. Free with cp_pages_free.
void *cp_pages_allocate(size_t byte_count);
void cp_pages_free(void *base, size_t byte_count);
/// Zeroed memory that the kernel may write to an unnamed file of `directory` and take away; NULL with errno on failure.
/// The disk's room is taken at once. Free with cp_pages_free.
void *cp_pages_on_disk(const char *directory, size_t byte_count);
/// Lets go of the resident pages of memory of cp_pages_on_disk; its contents stay.
void cp_pages_release(void *base, size_t byte_count);
/// Sends `signal` to this process when its parent dies (PR_SET_PDEATHSIG).
/// Returns 0 when the parent with the given number (0: any) has died already: nobody will send the signal then.
int cp_die_with_parent(int signal, int parent);

/// The processor's hint for a spin-wait loop.
static inline void cp_spin_pause(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/// CRC-32C (Castagnoli) of `bytes`, continued from `seed` (0 to begin).
uint32_t cp_crc32c(uint32_t seed, const void *bytes, size_t byte_count);
