/* Traffic for the benchmark, cheap enough not to be what is measured: no byte of bulk data is touched here.
 *
 *   load serve PORTS            answer on so many ports of 127.0.0.1 (printed); one thread
 *   load bulk PORT STREAMS MS   once all are connected, receive; print bytes and nanoseconds; stay until stdin ends
 *   load churn PORT CLIENTS MS  connect, greet, be answered, close, again; print how many in time and nanoseconds
 *   load ping PORT TIMES        64 bytes there and back; print the nanoseconds of each, one a line
 *   load hold PORT TIMES        open idle connections; print how many; keep them until stdin ends
 *   load clock [hold]           print CLOCK_MONOTONIC in nanoseconds; `hold`: stay until killed
 *   load exec COMMAND...        print the clock and become COMMAND
 *
 * Each connection opens with a line that an ssh gate lets pass, `SSH-2.0-<work>`, and is answered with `SSH-2.0-load`.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define ANSWER "SSH-2.0-load\r\n"
#define ANSWER_BYTES (sizeof ANSWER - 1)
#define PIECE (1 << 20)
#define ECHO_BYTES 64
#define EVENTS 64
#define MOST_FDS 65536
#define WARM_UP_PINGS 200

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static long long now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void raise_fd_limit(void) {
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max < MOST_FDS ? limit.rlim_max : MOST_FDS;
    setrlimit(RLIMIT_NOFILE, &limit);
}

static void wait_for_stdin(void) {
    char byte;
    fflush(stdout);
    while (read(0, &byte, 1) > 0) {
    }
}

static struct sockaddr_in loopback(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

static void no_delay(int fd) {
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

/* Server */

enum work { LISTENING = 1, GREETING, READY, BULK, ECHO, HOLD };
static unsigned char work_of[MOST_FDS];
static int epoll_fd, zeros_fd;

static void watch(int operation, int fd, unsigned events) {
    struct epoll_event event = {.events = events, .data.fd = fd};
    if (epoll_ctl(epoll_fd, operation, fd, &event) < 0)
        fail("epoll_ctl");
}

static int listen_anywhere(void) {
    struct sockaddr_in address = loopback(0);
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (bind(fd, (struct sockaddr *)&address, size) < 0 || listen(fd, 4096) < 0)
        fail("listen");
    getsockname(fd, (struct sockaddr *)&address, &size);
    printf("%d ", ntohs(address.sin_port));
    no_delay(fd);
    return fd;
}

static void accept_all(int listener) {
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        if (fd >= MOST_FDS) {
            close(fd);
            continue;
        }
        work_of[fd] = GREETING;
        watch(EPOLL_CTL_ADD, fd, EPOLLIN);
    }
}

/* The line comes in one piece: it is far below any segment and the first thing on the connection. */
static void greet(int fd) {
    char line[64] = "";
    ssize_t size = read(fd, line, sizeof line - 1);
    if (size <= 0 || write(fd, ANSWER, ANSWER_BYTES) < 0) {
        close(fd);
        return;
    }
    work_of[fd] = strstr(line, "-bulk") ? READY : strstr(line, "-echo") ? ECHO : HOLD;
}

static void serve_one(int fd) {
    char data[4096];
    ssize_t size;
    off_t start = 0;
    if (work_of[fd] == LISTENING)
        accept_all(fd);
    else if (work_of[fd] == GREETING)
        greet(fd);
    else if (work_of[fd] == BULK) {
        if (sendfile(fd, zeros_fd, &start, PIECE) < 0 && errno != EAGAIN)
            close(fd);
    } else {
        size = read(fd, data, sizeof data);
        if (size <= 0 || (work_of[fd] == ECHO && write(fd, data, size) != size))
            close(fd);
        else if (work_of[fd] == READY) {
            work_of[fd] = BULK;
            watch(EPOLL_CTL_MOD, fd, EPOLLOUT);
        }
    }
}

static void serve(int ports) {
    struct epoll_event ready[EVENTS];
    raise_fd_limit();
    signal(SIGPIPE, SIG_IGN);
    epoll_fd = epoll_create1(0);
    zeros_fd = memfd_create("zeros", 0);
    /* pages that exist: a hole would be the one zero page over and over */
    if (zeros_fd < 0 || posix_fallocate(zeros_fd, 0, PIECE) != 0)
        fail("memfd");
    while (ports-- > 0) {
        int fd = listen_anywhere();
        work_of[fd] = LISTENING;
        watch(EPOLL_CTL_ADD, fd, EPOLLIN);
    }
    puts("");
    fflush(stdout);
    for (;;) {
        int count = epoll_wait(epoll_fd, ready, EVENTS, -1);
        for (int i = 0; i < count; i++)
            serve_one(ready[i].data.fd);
    }
}

/* Clients */

static int dial(int port, const char *work) {
    struct sockaddr_in address = loopback(port);
    struct timeval patience = {.tv_sec = 30};
    char line[64];
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    no_delay(fd);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    snprintf(line, sizeof line, "SSH-2.0-%s\r\n", work);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
        fail("connect");
    if (write(fd, line, strlen(line)) < 0)
        fail("greet");
    return fd;
}

static void receive(int fd, size_t size) {
    char data[256];
    if (recv(fd, data, size, MSG_WAITALL) != (ssize_t)size)
        fail("answer");
}

/* STREAMS is at most EVENTS. */
static void bulk(int port, int streams, long long wanted_ns) {
    struct epoll_event ready[EVENTS];
    long long received = 0, start, end;
    int fds[EVENTS];
    epoll_fd = epoll_create1(0);
    for (int i = 0; i < streams; i++) {
        fds[i] = dial(port, "bulk");
        receive(fds[i], ANSWER_BYTES);
        watch(EPOLL_CTL_ADD, fds[i], EPOLLIN);
    }
    start = now();
    for (int i = 0; i < streams; i++)
        if (write(fds[i], "\n", 1) != 1)
            fail("start");
    do {
        int count = epoll_wait(epoll_fd, ready, EVENTS, 1000);
        for (int i = 0; i < count; i++) {
            /* MSG_TRUNC: TCP drops the bytes instead of copying them */
            ssize_t size = recv(ready[i].data.fd, NULL, PIECE, MSG_TRUNC | MSG_DONTWAIT);
            if (size == 0 || (size < 0 && errno != EAGAIN))
                fail("bulk");
            if (size > 0)
                received += size;
        }
        end = now();
    } while (end - start < wanted_ns);
    printf("%lld %lld\n", received, end - start);
    wait_for_stdin();
}

static void open_one(int port) {
    struct sockaddr_in address = loopback(port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0 && errno != EINPROGRESS)
        fail("connect");
    watch(EPOLL_CTL_ADD, fd, EPOLLOUT);
}

/* All clients in one process: as many processes would take the processor from the gate each time it answers one. */
static void churn(int port, int clients, long long wanted_ns) {
    struct epoll_event ready[EVENTS];
    char data[64];
    long long end = now() + wanted_ns, done = 0;
    epoll_fd = epoll_create1(0);
    while (clients-- > 0)
        open_one(port);
    while (now() < end) {
        int count = epoll_wait(epoll_fd, ready, EVENTS, 100);
        for (int i = 0; i < count; i++) {
            int fd = ready[i].data.fd;
            if (ready[i].events & EPOLLOUT) {
                if (write(fd, "SSH-2.0-hold\r\n", 14) != 14)
                    fail("greet");
                watch(EPOLL_CTL_MOD, fd, EPOLLIN);
            } else {
                if (read(fd, data, sizeof data) <= 0)
                    fail("answer");
                close(fd);
                done++;
                open_one(port);
            }
        }
    }
    printf("%lld %lld\n", done, wanted_ns);
}

static void ping(int port, int times) {
    char data[ECHO_BYTES] = {0};
    int fd = dial(port, "echo");
    receive(fd, ANSWER_BYTES);
    for (int i = -WARM_UP_PINGS; i < times; i++) {
        long long start = now();
        if (write(fd, data, sizeof data) < 0)
            fail("ping");
        receive(fd, sizeof data);
        if (i >= 0)
            printf("%lld\n", now() - start);
    }
}

static void hold(int port, int times) {
    raise_fd_limit();
    for (int i = 0; i < times; i++)
        receive(dial(port, "hold"), ANSWER_BYTES);
    printf("%d\n", times);
    wait_for_stdin();
}

int main(int count, char **words) {
    const char *verb = count > 1 ? words[1] : "";
    int first = count > 2 ? atoi(words[2]) : 0, second = count > 3 ? atoi(words[3]) : 0;
    if (!strcmp(verb, "clock")) {
        printf("%lld\n", now());
        fflush(stdout);
        while (count > 2)
            pause();
    } else if (!strcmp(verb, "exec") && count > 2) {
        printf("%lld\n", now());
        fflush(stdout);
        execvp(words[2], words + 2);
        fail(words[2]);
    } else if (!strcmp(verb, "serve"))
        serve(first);
    else if (!strcmp(verb, "bulk") && count > 4)
        bulk(first, second, atoi(words[4]) * 1000000LL);
    else if (!strcmp(verb, "churn") && count > 4)
        churn(first, second, atoi(words[4]) * 1000000LL);
    else if (!strcmp(verb, "ping"))
        ping(first, second);
    else if (!strcmp(verb, "hold"))
        hold(first, second);
    else
        return 2;
    return 0;
}
