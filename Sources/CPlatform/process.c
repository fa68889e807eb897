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

static void close_others_on_exec(void) {
    if (close_range(3, ~0U, CLOSE_RANGE_CLOEXEC) == 0) return;
    struct rlimit r;
    int end = getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur < 65536 ? (int)r.rlim_cur : 65536;
    for (int fd = 3; fd < end; fd++) fcntl(fd, F_SETFD, FD_CLOEXEC);
}

static int redirect(int stdin_fd, int stdout_fd, int stderr_fd) {
    // Copies above 2 first, for a parent that runs with 0, 1 or 2 closed.
    int in = fcntl(stdin_fd, F_DUPFD, 3), out = fcntl(stdout_fd, F_DUPFD, 3), error = fcntl(stderr_fd, F_DUPFD, 3);
    if (in < 0 || out < 0 || error < 0) return -1;
    return dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(error, 2) < 0 ? -1 : 0;
}

pid_t cp_spawn_limited(
    const char *path, char *const argv[], char *const envp[], int stdin_fd, int stdout_fd, int stderr_fd,
    const struct cp_process_limits *limits) {
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
        // The report descriptor may be 0, 1 or 2 when the parent runs with those closed: move it out of the way.
        int reporter = fcntl(report[1], F_DUPFD_CLOEXEC, 3);
        default_signals();
        if (reporter >= 0 && setpgid(0, 0) == 0 && prctl(PR_SET_PDEATHSIG, SIGKILL) == 0
            && redirect(stdin_fd, stdout_fd, stderr_fd) == 0) {
            close_others_on_exec();
            if (getppid() != parent) _exit(127);  // the parent died before prctl
            if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && set_limits(limits) == 0) execve(path, argv, envp);
        }
        int code = errno;
        ssize_t ignored = write(reporter, &code, sizeof code);
        (void)ignored;
        _exit(127);
    }
    int vfork_error = errno;
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
