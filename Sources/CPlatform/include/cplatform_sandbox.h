// SPDX-License-Identifier: Apache-2.0
// What sandboxes need of the kernel. Linux only.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/// Writes the seccomp filter of sandboxed programs, an array of `struct sock_filter` for this processor, and returns
/// its size in bytes; 0 when `byte_count` is too small or the processor is not known. System calls that reach beyond a
/// single process without privileges fail with EPERM: new namespaces, mounts, other processes (none can be started,
/// threads can), tracing, keys, BPF, io_uring, kernel modules, clocks, memory that no limit counts, foreign
/// sockets.
size_t cp_seccomp_filter(void *buffer, size_t byte_count);

/// A close-on-exec pipe, its reading end first; -1 and errno.
int cp_pipe(int ends[2]);

/// An unnamed file in memory with these bytes, close-on-exec, to be read from its start; -1 and errno.
int cp_memory_file(const void *bytes, size_t byte_count);

/// Processor time of a process, all threads, nanoseconds; -1 when there is no such process.
int64_t cp_processor_nanoseconds(pid_t pid);

/// 1 when every thread of the process waits for something by its own wish; 0 when one computes, wants to, is stopped or
/// waits for the disk, or the process is gone.
int cp_is_asleep(pid_t pid);

/// Calls `visit` with the path of each shared library of this process, as the loader found it.
void cp_loaded_libraries(void (*visit)(const char *path, void *context), void *context);
