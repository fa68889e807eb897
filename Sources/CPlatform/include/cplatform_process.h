// SPDX-License-Identifier: Apache-2.0
// Child processes with limits. Linux only.
#pragma once
#include <signal.h>
#include <stdint.h>
#include <sys/types.h>

/// Resource limits of a child (setrlimit, soft = hard); 0 leaves the inherited limit.
struct cp_process_limits {
    uint64_t address_space_bytes;
    uint64_t cpu_seconds;
    uint64_t file_size_bytes;
    uint64_t open_file_count;
    uint64_t process_count;  // of the user, threads included; no limit on root
    uint32_t user;           // root becomes this user and group first, without further groups; others stay who they are
};

/// Whether this program was built with a sanitizer, whose shadow memory takes terabytes of address space.
int cp_is_sanitized(void);

/// Most descriptors that a child can be given.
#define CP_DESCRIPTOR_COUNT_MAX 16

/// Starts `path` in a process group of its own, with `limits`, default signal actions, no core dumps, no inherited
/// descriptor but the given ones (at least three, at most CP_DESCRIPTOR_COUNT_MAX: they become 0, 1, 2, 3 ...), and
/// SIGKILL when the calling *thread* ends (PR_SET_PDEATHSIG), so call it from a thread that outlives the child. `argv`
/// and `envp` end with NULL.
/// Returns the process id, also its group id; -1 and errno when any step up to and including execve failed.
pid_t cp_spawn_limited(
    const char *path, char *const argv[], char *const envp[], const int *descriptors, int descriptor_count,
    const struct cp_process_limits *limits);

/// Makes the calling thread of root another user and group, without further groups, for good; the other threads of the
/// process stay who they are. 0, or -1 and errno; nothing happens where the caller is not root or `user` is 0.
int cp_become_user(uint32_t user);

/// A close-on-exec descriptor that is readable once the child has ended; -1 and errno (ENOSYS before Linux 5.3).
int cp_pidfd_open(pid_t pid);

/// `si_status` of what waitid filled in, a member that Swift does not see: exit status or signal.
static inline int cp_child_status(const siginfo_t *information) { return information->si_status; }

/// Keeps SIGPIPE from the calling thread, so that writing to a dead child is EPIPE instead of a signal.
void cp_block_sigpipe(void);
