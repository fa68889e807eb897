// SPDX-License-Identifier: Apache-2.0
#include "cplatform_standard.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

void cp_open_standard_descriptors(void) {
    for (int fd = 0; fd <= 2; fd++) {
        if (fcntl(fd, F_GETFD) >= 0 || errno != EBADF) continue;
        // The lowest free descriptor is taken, which is this one. Reading from an output fails, as it did when closed.
        int opened = open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY);
        if (opened >= 0 && opened != fd) close(opened);
    }
}

static const char *output_prefix = "";
static int output_error = 0;

static void note_output_error(int error) {
    if (error == EPIPE) {
        sigset_t set;
        sigemptyset(&set);
        sigaddset(&set, SIGPIPE);
        signal(SIGPIPE, SIG_DFL);
        pthread_sigmask(SIG_UNBLOCK, &set, NULL);
        raise(SIGPIPE);
    }
    if (output_error != 0) return;
    output_error = error != 0 ? error : EIO;
    fprintf(stderr, "%s: standard output cannot be written: %s\n", output_prefix, strerror(output_error));
}

static void finish_output(int status, void *unused) {
    (void)unused;
    cp_flush_output();
    if (output_error != 0 && status == 0) _exit(1);
}

void cp_watch_output(const char *prefix) {
    output_prefix = prefix;
    on_exit(finish_output, NULL);
}

void cp_output(const void *bytes, size_t byte_count) {
    errno = 0;
    if (fwrite(bytes, 1, byte_count, stdout) < byte_count) note_output_error(errno);
}

void cp_flush_output(void) {
    errno = 0;
    if (fflush(stdout) != 0 || ferror(stdout)) note_output_error(errno);
}

uint64_t cp_raise_limit(enum cp_limit limit, uint64_t ceiling) {
    int resource = limit == CP_LIMIT_OPEN_FILES ? RLIMIT_NOFILE : limit == CP_LIMIT_ADDRESS_SPACE ? RLIMIT_AS
                                                                                                 : RLIMIT_FSIZE;
    struct rlimit now;
    if (getrlimit(resource, &now) != 0) return UINT64_MAX;
    rlim_t wanted = now.rlim_max < ceiling ? now.rlim_max : (rlim_t)ceiling;
    if (now.rlim_cur < wanted) {
        struct rlimit raised = {.rlim_cur = wanted, .rlim_max = now.rlim_max};
        if (setrlimit(resource, &raised) == 0) now = raised;
    }
    return now.rlim_cur == RLIM_INFINITY ? UINT64_MAX : (uint64_t)now.rlim_cur;
}

static void *wait_for_the_others(void *gate) {
    while (sem_wait(gate) != 0 && errno == EINTR) {}
    return NULL;
}

int cp_startable_threads(int count) {
    pthread_t *threads = calloc((size_t)count, sizeof *threads);
    sem_t gate;
    if (threads == NULL || sem_init(&gate, 0, 0) != 0) {
        free(threads);
        return 0;
    }
    int started = 0;
    // All at once: the limit counts those that live.
    while (started < count && pthread_create(&threads[started], NULL, wait_for_the_others, &gate) == 0) started++;
    for (int i = 0; i < started; i++) sem_post(&gate);
    for (int i = 0; i < started; i++) pthread_join(threads[i], NULL);
    sem_destroy(&gate);
    free(threads);
    return started;
}
