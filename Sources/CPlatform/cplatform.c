// SPDX-License-Identifier: Apache-2.0
#include "cplatform.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

int cp_eventfd(void) { return eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC); }

void cp_eventfd_signal(int fd) {
    uint64_t one = 1;
    ssize_t written;
    do { written = write(fd, &one, sizeof one); } while (written < 0 && errno == EINTR);
}

void cp_eventfd_drain(int fd) {
    uint64_t count;
    ssize_t got;
    do { got = read(fd, &count, sizeof count); } while (got < 0 && errno == EINTR);
}

void cp_thread_name(const char *name) {
    char kept[16];
    strncpy(kept, name, sizeof kept - 1);
    kept[sizeof kept - 1] = 0;
    pthread_setname_np(pthread_self(), kept);
}

uint64_t cp_monotonic_nanoseconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

#define HUGE ((size_t)2 << 20)

static size_t rounded(size_t n) { return (n + HUGE - 1) & ~(HUGE - 1); }

void *cp_pages_allocate(size_t byte_count) {
    // Over-map by one huge page, then trim, so that the kernel can back the range with 2 MiB pages.
    size_t size = rounded(byte_count ? byte_count : 1);
    char *base = mmap(NULL, size + HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) return NULL;
    char *aligned = (char *)rounded((size_t)base);
    if (aligned > base) munmap(base, (size_t)(aligned - base));
    char *end = aligned + size;
    char *mapped_end = base + size + HUGE;
    if (mapped_end > end) munmap(end, (size_t)(mapped_end - end));
    madvise(aligned, size, MADV_HUGEPAGE);
    return aligned;
}

void cp_pages_free(void *base, size_t byte_count) {
    if (base) munmap(base, rounded(byte_count ? byte_count : 1));
}

void *cp_pages_on_disk(const char *directory, size_t byte_count) {
    size_t size = rounded(byte_count ? byte_count : 1);
    char name[4096];
    if (snprintf(name, sizeof name, "%s/pages-XXXXXX", directory) >= (int)sizeof name) {
        errno = ENAMETOOLONG;
        return NULL;
    }
    int file = mkostemp(name, O_CLOEXEC);
    if (file < 0) return NULL;
    unlink(name);
    // A hole would be found out by SIGBUS, in the middle of a step.
    int error = posix_fallocate(file, 0, (off_t)size);
    void *base = error ? MAP_FAILED : mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (!error && base == MAP_FAILED) error = errno;
    close(file);
    errno = error;
    return base == MAP_FAILED ? NULL : base;
}

void cp_pages_release(void *base, size_t byte_count) {
    msync(base, rounded(byte_count), MS_ASYNC);
    madvise(base, rounded(byte_count), MADV_DONTNEED);
}

int cp_die_with_parent(int signal, int parent) {
    prctl(PR_SET_PDEATHSIG, signal);
    // One that has died before this call sends nothing any more.
    return parent <= 0 || getppid() == parent;
}
