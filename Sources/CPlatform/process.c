// SPDX-License-Identifier: Apache-2.0
#include "cplatform_process.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC (1U << 2)
#endif

#if defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#define IS_SANITIZED 1
#endif
#endif
#ifndef IS_SANITIZED
#define IS_SANITIZED 0
#endif

int cp_is_sanitized(void) { return IS_SANITIZED; }

int cp_pidfd_open(pid_t pid) { return (int)syscall(SYS_pidfd_open, pid, 0); }

void cp_block_sigpipe(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
}

// Everything below, up to cp_spawn_limited, runs between vfork and execve, on the memory of a process with threads:
// only async-signal-safe calls (signal-safety(7)), no allocation, no writes but to locals.

static int limit(int resource, uint64_t value) {
    if (value == 0) return 0;
    struct rlimit r = {.rlim_cur = value, .rlim_max = value};
    return setrlimit(resource, &r);
}

static int set_limits(const struct cp_process_limits *l) {
    struct rlimit no_core = {0, 0};
    if (setrlimit(RLIMIT_CORE, &no_core) != 0) return -1;
    if (limit(RLIMIT_AS, l->address_space_bytes) != 0 || limit(RLIMIT_FSIZE, l->file_size_bytes) != 0) return -1;
    if (limit(RLIMIT_NOFILE, l->open_file_count) != 0) return -1;
    // Root is above this limit and a user's other processes count: 1 means "none besides those there are".
    if (geteuid() != 0 && limit(RLIMIT_NPROC, l->process_count) != 0) return -1;
    if (l->cpu_seconds == 0) return 0;
    // The hard limit is one second later: SIGXCPU may be caught, SIGKILL may not.
    struct rlimit cpu = {.rlim_cur = l->cpu_seconds, .rlim_max = l->cpu_seconds + 1};
    return setrlimit(RLIMIT_CPU, &cpu);
}

static void default_signals(void) {
    struct sigaction action = {.sa_handler = SIG_DFL};
    for (int signal = 1; signal < NSIG; signal++) sigaction(signal, &action, NULL);  // KILL and STOP refuse
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static void close_others_on_exec(unsigned first) {
    if (close_range(first, ~0U, CLOSE_RANGE_CLOEXEC) == 0) return;
    struct rlimit r;
    int end = getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur < 65536 ? (int)r.rlim_cur : 65536;
    for (int fd = (int)first; fd < end; fd++) fcntl(fd, F_SETFD, FD_CLOEXEC);
}

static int redirect(const int *descriptors, int count) {
    // Copies above all targets first: what comes may lie where another is to go.
    int copies[CP_DESCRIPTOR_COUNT_MAX];
    for (int i = 0; i < count; i++) {
        copies[i] = fcntl(descriptors[i], F_DUPFD_CLOEXEC, CP_DESCRIPTOR_COUNT_MAX);
        if (copies[i] < 0) return -1;
    }
    for (int i = 0; i < count; i++) {
        if (dup2(copies[i], i) < 0) return -1;
    }
    return 0;
}

// The system calls themselves: those of the C library tell all threads of the process, of which this is none.
int cp_become_user(uint32_t user) {
    if (user == 0 || geteuid() != 0) return 0;
    if (syscall(SYS_setgroups, 0, NULL) != 0 || syscall(SYS_setresgid, user, user, user) != 0) return -1;
    return (int)syscall(SYS_setresuid, user, user, user);
}

pid_t cp_spawn_limited(
    const char *path, char *const argv[], char *const envp[], const int *descriptors, int descriptor_count,
    const struct cp_process_limits *limits) {
    if (descriptor_count < 3 || descriptor_count > CP_DESCRIPTOR_COUNT_MAX) {
        errno = EINVAL;
        return -1;
    }
    int report[2];  // closed by a successful execve; otherwise carries errno
    if (pipe2(report, O_CLOEXEC) != 0) return -1;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pid_t parent = getpid();
    // Not fork: that copies the page tables of a worker's weights and makes each page fault when next written.
    // vfork suspends this thread alone; descriptors and signal actions are the child's own (no CLONE_FILES, no
    // CLONE_SIGHAND), and no handler of ours can run in it because all signals are blocked until they are default.
    pid_t pid = vfork();
    if (pid == 0) {
        // The report descriptor may lie where another is to go: move it out of the way.
        int reporter = fcntl(report[1], F_DUPFD_CLOEXEC, CP_DESCRIPTOR_COUNT_MAX);
        default_signals();
        // Another user clears the signal of the parent's death: first the one, then the other.
        if (reporter >= 0 && setpgid(0, 0) == 0 && cp_become_user(limits->user) == 0
            && prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && redirect(descriptors, descriptor_count) == 0) {
            close_others_on_exec((unsigned)descriptor_count);
            if (getppid() != parent) _exit(127);  // the parent died before prctl
            if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && set_limits(limits) == 0) execve(path, argv, envp);
        }
        int code = errno;
        ssize_t ignored = write(reporter, &code, sizeof code);
        (void)ignored;
        _exit(127);
    }
    int vfork_error = errno;
    // The child's change of user took this from the memory that both share.
    if (limits->user != 0 && geteuid() == 0) prctl(PR_SET_DUMPABLE, 1);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    close(report[1]);
    if (pid < 0) {
        close(report[0]);
        errno = vfork_error;
        return -1;
    }
    int code = 0;
    ssize_t got;
    do { got = read(report[0], &code, sizeof code); } while (got < 0 && errno == EINTR);
    close(report[0]);
    if (got == sizeof code) {
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {}
        errno = code;
        return -1;
    }
    return pid;
}
