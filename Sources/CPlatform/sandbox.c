// SPDX-License-Identifier: Apache-2.0
#include "cplatform_sandbox.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <link.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#if defined(__x86_64__)
#define FILTER_ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define FILTER_ARCHITECTURE AUDIT_ARCH_AARCH64
#endif

// Refused whatever their arguments. Numbers that the headers do not know yet are the same on all processors.
static const int refused[] = {
    // Namespaces and mounts.
    SYS_unshare, SYS_setns, SYS_mount, SYS_umount2, SYS_pivot_root, SYS_chroot,
    428 /* open_tree */, 429 /* move_mount */, 430 /* fsopen */, 431 /* fsconfig */, 432 /* fsmount */,
    433 /* fspick */, 442 /* mount_setattr */, SYS_name_to_handle_at, SYS_open_by_handle_at,
#ifdef SYS_fork
    SYS_fork, SYS_vfork,
#endif
    // Other processes.
    SYS_ptrace, SYS_process_vm_readv, SYS_process_vm_writev, SYS_kcmp, 438 /* pidfd_getfd */,
    440 /* process_madvise */, SYS_migrate_pages, SYS_move_pages,
    // The kernel's large surfaces.
    SYS_bpf, SYS_perf_event_open, SYS_userfaultfd, 425 /* io_uring_setup */, 426 /* io_uring_enter */,
    427 /* io_uring_register */, SYS_keyctl, SYS_add_key, SYS_request_key, SYS_fanotify_init,
    // The machine.
    SYS_kexec_load, SYS_init_module, SYS_finit_module, SYS_delete_module, SYS_reboot, SYS_swapon, SYS_swapoff,
    SYS_acct, SYS_syslog, SYS_quotactl, 443 /* quotactl_fd */, SYS_settimeofday, SYS_clock_settime,
    SYS_clock_adjtime, SYS_adjtimex, SYS_sethostname, SYS_setdomainname, SYS_vhangup, SYS_personality,
#ifdef SYS_kexec_file_load
    SYS_kexec_file_load,
#endif
#if defined(__x86_64__)
    SYS_iopl, SYS_ioperm, SYS_modify_ldt,
#endif
    // Memory that no limit of a process counts.
    SYS_memfd_create, 447 /* memfd_secret */, SYS_shmget, SYS_msgget, SYS_semget, SYS_mq_open,
};

#define OFFSET(member) ((uint32_t)offsetof(struct seccomp_data, member))
#define LOAD(offset) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offset)
#define EQUALS(value, yes, no) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, yes, no)
#define RETURN(value) BPF_STMT(BPF_RET | BPF_K, value)
#define REFUSE(code) RETURN(SECCOMP_RET_ERRNO | (code))
// Both processors are little-endian: the low word of an argument comes first.
#define ARGUMENT(n) (OFFSET(args) + 8 * (n))
#define CLONE_NAMESPACES                                                                                              \
    (CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP)

size_t cp_seccomp_filter(void *buffer, size_t byte_count) {
#ifdef FILTER_ARCHITECTURE
    const struct sock_filter before[] = {
        // Another architecture (32-bit calls) has other numbers.
        LOAD(OFFSET(arch)), EQUALS(FILTER_ARCHITECTURE, 1, 0), RETURN(SECCOMP_RET_KILL_PROCESS),
        LOAD(OFFSET(nr)),
#if defined(__x86_64__)
        // The numbers of x32 begin here.
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0x40000000, 0, 1), REFUSE(EPERM),
#endif
        // Its arguments lie in memory, where a filter cannot look: the C library then calls clone.
        EQUALS(435 /* clone3 */, 0, 1), REFUSE(ENOSYS),
    };
    const struct sock_filter after[] = {
        // A thread of the process, in the same namespaces.
        EQUALS(SYS_clone, 0, 5), LOAD(ARGUMENT(0)),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, CLONE_NAMESPACES, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, CLONE_THREAD, 0, 1), RETURN(SECCOMP_RET_ALLOW), REFUSE(EPERM),
        // No sockets of kinds that a network namespace does not hold (vsock) or that open much of the kernel.
        EQUALS(SYS_socket, 0, 5), LOAD(ARGUMENT(0)), EQUALS(AF_UNIX, 2, 0), EQUALS(AF_INET, 1, 0),
        EQUALS(AF_INET6, 0, 6), RETURN(SECCOMP_RET_ALLOW),
        // No input put into a terminal.
        EQUALS(SYS_ioctl, 0, 5), LOAD(ARGUMENT(1)), EQUALS(TIOCSTI, 2, 0), EQUALS(0x541C /* TIOCLINUX */, 1, 0),
        RETURN(SECCOMP_RET_ALLOW), REFUSE(EPERM),
        // A program that stops itself would look like one that the host does not let run.
        EQUALS(SYS_kill, 3, 0), EQUALS(SYS_tkill, 2, 0), EQUALS(SYS_rt_sigqueueinfo, 1, 0),
        EQUALS(424 /* pidfd_send_signal */, 0, 2), LOAD(ARGUMENT(1)), BPF_JUMP(BPF_JMP | BPF_JA, 3, 0, 0),
        EQUALS(SYS_tgkill, 1, 0), EQUALS(SYS_rt_tgsigqueueinfo, 0, 7), LOAD(ARGUMENT(2)),
        EQUALS(SIGSTOP, 3, 0), EQUALS(SIGTSTP, 2, 0), EQUALS(SIGTTIN, 1, 0), EQUALS(SIGTTOU, 0, 1), REFUSE(EPERM),
        RETURN(SECCOMP_RET_ALLOW), RETURN(SECCOMP_RET_ALLOW),
    };
    const size_t refused_count = sizeof refused / sizeof refused[0];
    const size_t before_count = sizeof before / sizeof before[0], after_count = sizeof after / sizeof after[0];
    const size_t needed = (before_count + 2 * refused_count + after_count) * sizeof(struct sock_filter);
    if (byte_count < needed) return 0;
    struct sock_filter *out = buffer;
    memcpy(out, before, sizeof before);
    out += before_count;
    for (size_t i = 0; i < refused_count; i++) {
        *out++ = (struct sock_filter)EQUALS((uint32_t)refused[i], 0, 1);
        *out++ = (struct sock_filter)REFUSE(EPERM);
    }
    memcpy(out, after, sizeof after);
    return needed;
#else
    (void)buffer, (void)byte_count;
    return 0;
#endif
}

int cp_pipe(int ends[2]) { return pipe2(ends, O_CLOEXEC); }

int cp_memory_file(const void *bytes, size_t byte_count) {
    int fd = memfd_create("apus", MFD_CLOEXEC);
    if (fd < 0) return -1;
    size_t written = 0;
    while (written < byte_count) {
        ssize_t count = write(fd, (const char *)bytes + written, byte_count - written);
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) {
            int code = errno;
            close(fd);
            errno = code;
            return -1;
        }
        written += (size_t)count;
    }
    if (lseek(fd, 0, SEEK_SET) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

int64_t cp_processor_nanoseconds(pid_t pid) {
    clockid_t clock;
    struct timespec time;
    if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &time) != 0) return -1;
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

int cp_is_asleep(pid_t pid) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    DIR *tasks = opendir(path);
    if (tasks == NULL) return 0;
    int asleep = 0;
    struct dirent *entry;
    while ((entry = readdir(tasks)) != NULL) {
        if (entry->d_name[0] == '.') continue;
        char text[512];
        snprintf(path, sizeof path, "/proc/%d/task/%d/stat", (int)pid, atoi(entry->d_name));
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t count = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
        if (fd >= 0) close(fd);
        if (count <= 0) continue;  // a thread that has just ended
        text[count] = 0;
        // The name is in parentheses and may hold any character.
        const char *state = strrchr(text, ')');
        asleep = state != NULL && state[1] == ' ' && (state[2] == 'S' || state[2] == 'I');
        if (!asleep) break;
    }
    closedir(tasks);
    return asleep;
}

struct visitor {
    void (*visit)(const char *path, void *context);
    void *context;
};

static int visit_library(struct dl_phdr_info *information, size_t size, void *context) {
    (void)size;
    const struct visitor *visitor = context;
    if (information->dlpi_name != NULL && information->dlpi_name[0] == '/') {
        visitor->visit(information->dlpi_name, visitor->context);
    }
    return 0;
}

void cp_loaded_libraries(void (*visit)(const char *path, void *context), void *context) {
    struct visitor visitor = {visit, context};
    dl_iterate_phdr(visit_library, &visitor);
}
