/* A load generator that costs as little as it can: one thread, N keep-alive connections, one request outstanding on each.
 *
 *   generator PORT REQUESTS CONNECTIONS SECONDS
 *
 * REQUESTS is a file of whole request heads, each ended by a NUL. Each holds "\r\nX-Request-Id: " and 16 digits, which are
 * overwritten by a number never used before in this run, so no two requests are equal. SECONDS 0 sends each request once.
 * Prints one line of JSON. Every answer must be "HTTP/1.1 200" with a Content-Length; anything else is counted or fatal.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MAX_CONNECTIONS = 1024, ANSWER_BYTES = 65536, HISTOGRAM_MICROSECONDS = 1000000 };

typedef struct { char *head; size_t length; char *id; } Request;
typedef struct { int socket; size_t received; double sent_at; char answer[ANSWER_BYTES]; } Connection;

static Request *requests;
static size_t request_count, sent, answered, refused;
static Connection connections[MAX_CONNECTIONS];
static unsigned histogram[HISTOGRAM_MICROSECONDS + 1];

static void fail(const char *what) {
    fprintf(stderr, "generator: %s: %s\n", what, errno ? strerror(errno) : "unexpected");
    exit(1);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void read_requests(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END)) fail(path);
    long size = ftell(file);
    char *all = malloc((size_t)size);
    rewind(file);
    if (!all || fread(all, 1, (size_t)size, file) != (size_t)size || size == 0 || all[size - 1] != 0) fail(path);
    fclose(file);
    for (char *head = all; head < all + size; head += strlen(head) + 1) {
        requests = realloc(requests, (request_count + 1) * sizeof *requests);
        char *id = strstr(head, "\r\nX-Request-Id: ");
        if (!requests || !id) fail("a request has no X-Request-Id");
        requests[request_count++] = (Request){head, strlen(head), id + strlen("\r\nX-Request-Id: ")};
    }
}

static int connect_to(int port) {
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address)) fail("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

static void send_next(Connection *c) {
    Request *r = &requests[sent % request_count];
    size_t number = ++sent;
    for (int digit = 15; number; digit--, number /= 10) r->id[digit] = (char)('0' + number % 10);
    c->received = 0;
    c->sent_at = now();
    if (send(c->socket, r->head, r->length, MSG_NOSIGNAL) != (ssize_t)r->length) fail("send");
}

/* Whether the answer on this connection is complete; counts it if so. */
static int take_answer(Connection *c) {
    ssize_t n = recv(c->socket, c->answer + c->received, ANSWER_BYTES - 1 - c->received, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
    errno = n < 0 ? errno : 0;
    if (n <= 0) fail("the server closed a connection");
    c->received += (size_t)n;
    c->answer[c->received] = 0;
    char *end = memmem(c->answer, c->received, "\r\n\r\n", 4);
    if (!end) return 0;
    char *length = strcasestr(c->answer, "\r\ncontent-length:");
    if (!length || length > end) fail("an answer without Content-Length");
    size_t whole = (size_t)(end + 4 - c->answer) + strtoul(length + strlen("\r\ncontent-length:"), NULL, 10);
    if (c->received < whole) return 0;
    if (c->received > whole) fail("more bytes than the answer has");
    refused += memcmp(c->answer, "HTTP/1.1 200", 12) != 0;
    double microseconds = (now() - c->sent_at) * 1e6;
    histogram[microseconds < HISTOGRAM_MICROSECONDS ? (size_t)microseconds : HISTOGRAM_MICROSECONDS]++;
    answered++;
    return 1;
}

static size_t percentile(double share) {
    size_t seen = 0, at = 0;
    while (at < HISTOGRAM_MICROSECONDS && (double)(seen += histogram[at]) < share * (double)answered) at++;
    return at;
}

int main(int argc, char **argv) {
    if (argc != 5) return fprintf(stderr, "usage: generator PORT REQUESTS CONNECTIONS SECONDS\n"), 2;
    int count = atoi(argv[3]), poll = epoll_create1(0);
    double seconds = atof(argv[4]);
    if (count < 1 || count > MAX_CONNECTIONS || poll < 0) return fprintf(stderr, "generator: 1 to %d connections\n", MAX_CONNECTIONS), 2;
    read_requests(argv[2]);
    size_t most = seconds > 0 ? (size_t)-1 : request_count;
    for (int i = 0; i < count; i++) {
        connections[i].socket = connect_to(atoi(argv[1]));
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &connections[i]};
        if (epoll_ctl(poll, EPOLL_CTL_ADD, connections[i].socket, &event)) fail("epoll_ctl");
    }
    double start = now(), end = seconds > 0 ? start + seconds : 1e300;
    for (int i = 0; i < count && sent < most; i++) send_next(&connections[i]);
    struct epoll_event events[MAX_CONNECTIONS];
    while (answered < sent) {
        int n = epoll_wait(poll, events, count, 10000);
        if (n == 0) fail("no answer for 10 seconds");
        int more = now() < end;
        for (int i = 0; i < n; i++)
            if (take_answer(events[i].data.ptr) && more && sent < most) send_next(events[i].data.ptr);
    }
    double elapsed = now() - start;
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    double cpu = (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) + (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
    printf("{\"answered\": %zu, \"refused\": %zu, \"seconds\": %.6f, \"p50_us\": %zu, \"p99_us\": %zu, \"cpu_seconds\": %.6f}\n",
           answered, refused, elapsed, percentile(0.5), percentile(0.99), cpu);
    return 0;
}
