/* The edge's hot path: recvmmsg, look the flow up, capture, sendmmsg. It makes no decision that allocates: STUN, and
   whatever follows no flow, is left to the loop, which holds the rules. Single-threaded; no allocation after the start.

   Datagrams of one size to one address leave as one message that the kernel cuts up again (UDP_SEGMENT, "generic
   segmentation offload"): it then goes through routing and the device once and not once for each. What goes up all goes
   to few addresses, so it is up that this gains; down, a client's packets come together only in a burst. */

#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>

#include "wire.h"
#include "index.h"

#ifndef SO_RXQ_OVFL
#define SO_RXQ_OVFL 40
#endif
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

/* How long a turn goes on with what else arrives before the loop has its say: a turn of the loop costs as much as a
   packet or two, and under an ordinary load no more than that is there at a time. */
#define LINGER_NS 1000000
/* Between two batches, unless the last was full: what comes meanwhile is worth one system call and not one each. A
   packet by itself never waits for this, as it comes after a longer pause. */
#define GATHER_NS 50000

enum { UP, DOWN, UNKNOWN_TOS = -1 };
/* Room for a header before each received datagram, so that both leave in one piece. A stride that is no power of two
   spreads the heads of a batch over the whole cache. */
enum { HEADROOM = 32, STRIDE = WIRE_SLOT_BYTES + 2 * HEADROOM };
/* Received: time, overflow and TOS, 80 bytes together. Sent: the size of a segment. */
enum { CONTROL_BYTES = 128, SEGMENT_BYTES = CMSG_SPACE(sizeof(uint16_t)) };
/* The kernel takes 64 segments or, newer, 128, none larger than the path's MTU: what is larger than voice goes singly. */
enum { SEGMENTS_MAX = 64, SEGMENT_MAX = 1200, MESSAGE_MAX = 64000, OPEN_TRAINS = 4096 };
enum { MAGIC_DOWN = 0x5F, IPV6_FLAG = 1, CLIENT_AT = 2, KEY_BYTES_V4 = 6, KEY_BYTES_V6 = 18 };
/* RFC 7983, section 7, by the first byte; RFC 5761, section 4, by the second. */
enum { STUN_MAX = 3, DTLS_MIN = 20, DTLS_MAX = 63, RTP_MIN = 128, RTP_MAX = 191, RTCP_MIN = 192, RTCP_MAX = 223 };
enum { RTP_BYTES_MIN = 12 };

typedef union {
    sa_family_t family;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    uint8_t bytes[32];
} address;

/* Datagrams of one size to one address, in order. */
typedef struct {
    uint8_t *to;
    uint32_t to_bytes;
    uint32_t bytes;             /* of each */
    uint32_t count;
    uint32_t first;             /* of its pieces */
} train;

typedef struct {
    int fd;
    uint32_t dropped_by_kernel;
    int more;
    uint8_t *data;
    uint8_t (*control)[CONTROL_BYTES];
    address *from;
    struct iovec *in;
    struct mmsghdr *received;
    wire_datagram *left;
    int left_count;
    /* Datagrams to send: each with its train, then sorted by trains, then one message for each train. */
    uint32_t out, trains;
    struct iovec *piece;
    uint32_t *train_of;
    train *train;
    struct iovec *sorted;
    struct mmsghdr *to_send;
    uint8_t (*segment)[SEGMENT_BYTES];
} side;

struct wire {
    side sides[2];              /* by where datagrams come from: clients, transceivers */
    flow_index index;
    uint32_t batch;
    uint64_t now_ns;
    int64_t late_ns;
    int ipv6, record, shed, behind, punctual;
    int segmenting[2];          /* by direction: until the kernel refuses */
    uint32_t trains;            /* before this batch */
    uint32_t open[OPEN_TRAINS]; /* by address and size: the last such train, perhaps */
    wire_counters count;
    wire_capture rows;
};

wire_flow *wire_flows(wire *w) { return w->index.flows; }
void wire_open(wire *w, uint32_t slot) { flow_index_open(&w->index, slot); }
void wire_close(wire *w, uint32_t slot) { flow_index_close(&w->index, slot); }
wire_counters *wire_count(wire *w) { return &w->count; }
wire_capture *wire_rows(wire *w) { return &w->rows; }
int wire_behind(wire *w) { return w->behind; }

void wire_policy(wire *w, int record, int shed, int64_t late_ns) {
    w->record = record;
    w->shed = shed;
    w->late_ns = late_ns;
}

static int64_t clock_ns(clockid_t id) {
    struct timespec t;
    clock_gettime(id, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int side_new(side *s, int fd, uint32_t n) {
    s->fd = fd;
    s->data = calloc(n, STRIDE);
    s->control = calloc(n, sizeof *s->control);
    s->from = calloc(n, sizeof *s->from);
    s->in = calloc(n, sizeof *s->in);
    s->received = calloc(n, sizeof *s->received);
    s->left = calloc(n, sizeof *s->left);
    s->piece = calloc(n, sizeof *s->piece);
    s->train_of = calloc(n, sizeof *s->train_of);
    s->train = calloc(n, sizeof *s->train);
    s->sorted = calloc(n, sizeof *s->sorted);
    s->to_send = calloc(n, sizeof *s->to_send);
    s->segment = calloc(n, sizeof *s->segment);
    if (!s->data || !s->control || !s->from || !s->in || !s->received || !s->left || !s->piece || !s->train_of ||
        !s->train || !s->sorted || !s->to_send || !s->segment)
        return 0;
    for (uint32_t i = 0; i < n; i++) {
        s->in[i] = (struct iovec){s->data + (size_t)i * STRIDE + HEADROOM, WIRE_SLOT_BYTES};
        s->received[i].msg_hdr = (struct msghdr){.msg_name = &s->from[i], .msg_iov = &s->in[i], .msg_iovlen = 1,
                                                 .msg_control = s->control[i]};
    }
    return 1;
}

wire *wire_new(int public_fd, int internal_fd, int ipv6, uint32_t flows, uint32_t batch, const uint64_t *seeds) {
    wire *w = calloc(1, sizeof *w);
    if (!w) return NULL;
    w->batch = batch;
    w->ipv6 = ipv6;
    w->segmenting[UP] = w->segmenting[DOWN] = 1;
    if (!flow_index_new(&w->index, flows, seeds) || !side_new(&w->sides[UP], public_fd, batch) ||
        !side_new(&w->sides[DOWN], internal_fd, batch)) {
        wire_free(w);
        return NULL;
    }
    return w;
}

void wire_free(wire *w) {
    for (int d = UP; d <= DOWN; d++) {
        side *s = &w->sides[d];
        free(s->data); free(s->control); free(s->from); free(s->in); free(s->received); free(s->left);
        free(s->piece); free(s->train_of); free(s->train); free(s->sorted); free(s->to_send); free(s->segment);
    }
    flow_index_free(&w->index);
    free(w);
}

static void key_of_source(const address *from, uint64_t key[3]) {
    uint8_t *bytes = (uint8_t *)key;
    key[0] = key[1] = key[2] = 0;
    if (from->family == AF_INET) {
        memcpy(bytes, &from->v4.sin_port, 2);
        memcpy(bytes + 2, &from->v4.sin_addr, 4);
    } else {
        memcpy(bytes, &from->v6.sin6_port, 2);
        memcpy(bytes + 2, &from->v6.sin6_addr, 16);
        /* A link-local address means nothing without its scope, which no header carries. */
        if (from->v6.sin6_scope_id) memset(bytes + 18, 0xFF, 6);
    }
}

static void read_control(wire *w, int from, struct msghdr *message, int64_t *at_ns, int *tos) {
    side *s = &w->sides[from];
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_TIMESTAMPNS) {
            struct timespec t;
            memcpy(&t, CMSG_DATA(c), sizeof t);
            *at_ns = (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
        } else if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_RXQ_OVFL) {
            uint32_t total;
            memcpy(&total, CMSG_DATA(c), sizeof total);
            w->count.overflowed[from] += (uint32_t)(total - s->dropped_by_kernel);
            s->dropped_by_kernel = total;
        } else if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TOS) {
            *tos = *CMSG_DATA(c);
        } else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_TCLASS) {
            int value;
            memcpy(&value, CMSG_DATA(c), sizeof value);
            *tos = value & 0xFF;
        }
    }
}

static void capture(wire *w, const wire_flow *flow, int tap, const uint8_t *data, uint32_t bytes, int64_t at_ns, int tos) {
    wire_capture *r = &w->rows;
    uint64_t row = *r->filled;
    ++*r->seen;
    if (w->shed || row >= r->capacity) {
        ++*(w->shed ? r->overload : r->full);
        return;
    }
    uint8_t *head = r->head + row * WIRE_HEAD_BYTES;
    if (bytes >= WIRE_HEAD_BYTES) {
        memcpy(head, data, WIRE_HEAD_BYTES);
    } else {
        memcpy(head, data, bytes);
        memset(head + bytes, 0, WIRE_HEAD_BYTES - bytes);
    }
    r->at_ns[row] = at_ns;
    r->owner[row] = flow->owner;
    r->size[row] = (uint16_t)bytes;
    r->tos[row] = (int16_t)tos;
    r->tap[row] = (uint8_t)tap;
    *r->filled = row + 1;
}

static int is_rtp(const uint8_t *data, uint32_t bytes) {
    return bytes >= RTP_BYTES_MIN && data[0] >= RTP_MIN && data[0] <= RTP_MAX &&
           !(data[1] >= RTCP_MIN && data[1] <= RTCP_MAX);
}

static int is_media(const uint8_t *data, uint32_t bytes) {
    return bytes && ((data[0] >= RTP_MIN && data[0] <= RTP_MAX) || (data[0] >= DTLS_MIN && data[0] <= DTLS_MAX));
}

static int is_stun(const uint8_t *data, uint32_t bytes) { return bytes && data[0] <= STUN_MAX; }

/* Put a datagram on the train of its size and address, so that one flow's never overtake each other: trains leave in
   order, so a flow's next datagram goes on its last train or on a later one. */
static void enqueue(wire *w, side *s, wire_flow *flow, int direction, uint8_t *data, uint32_t bytes) {
    uint8_t *to = direction == UP ? flow->transceiver : flow->client;
    uint32_t *open = NULL;
    s->piece[s->out] = (struct iovec){data, bytes};
    if (w->segmenting[direction] && bytes <= SEGMENT_MAX) {
        uint64_t a, b;
        memcpy(&a, to, sizeof a);
        memcpy(&b, to + 16, sizeof b);
        open = &w->open[(((a ^ b) + bytes) * 0x9E3779B97F4A7C15u) >> 52];
        train *t = &s->train[*open];
        /* What another batch left there names another train or, if it fits all the same, one as good. */
        if (*open < s->trains && t->bytes == bytes && t->count < SEGMENTS_MAX && (t->count + 1) * bytes <= MESSAGE_MAX &&
            (int32_t)(w->trains + *open - flow->train) >= 0 && !memcmp(t->to, to, sizeof flow->transceiver)) {
            t->count++;
            s->train_of[s->out++] = *open;
            flow->train = w->trains + *open;
            return;
        }
        *open = s->trains;
    }
    flow->train = w->trains + s->trains;
    s->train_of[s->out++] = s->trains;
    s->train[s->trains++] = (train){.to = to, .bytes = bytes, .count = 1,
        .to_bytes = direction == UP ? flow->transceiver_bytes : flow->client_bytes};
}

/* Make one message of each train. */
static void couple(side *s) {
    uint32_t first = 0;
    for (uint32_t i = 0; i < s->trains; i++) {
        train *t = &s->train[i];
        struct msghdr *m = &s->to_send[i].msg_hdr;
        *m = (struct msghdr){.msg_name = t->to, .msg_namelen = t->to_bytes, .msg_iov = s->sorted + first,
                             .msg_iovlen = t->count};
        if (t->count > 1) {
            uint16_t bytes = (uint16_t)t->bytes;
            m->msg_control = s->segment[i];
            m->msg_controllen = SEGMENT_BYTES;
            struct cmsghdr *c = CMSG_FIRSTHDR(m);
            c->cmsg_level = SOL_UDP;
            c->cmsg_type = UDP_SEGMENT;
            c->cmsg_len = CMSG_LEN(sizeof bytes);
            memcpy(CMSG_DATA(c), &bytes, sizeof bytes);
        }
        t->first = first;
        first += t->count;
    }
    for (uint32_t i = 0; i < s->out; i++) s->sorted[s->train[s->train_of[i]].first++] = s->piece[i];
}

/* Send a train's datagrams one by one. */
static void send_singly(wire *w, int fd, struct msghdr *message, int direction) {
    for (size_t i = 0; i < message->msg_iovlen; i++) {
        struct msghdr m = {.msg_name = message->msg_name, .msg_namelen = message->msg_namelen,
                           .msg_iov = message->msg_iov + i, .msg_iovlen = 1};
        ssize_t sent;
        while ((sent = sendmsg(fd, &m, MSG_DONTWAIT)) < 0 && errno == EINTR) {}
        if (sent >= 0) w->count.messages[direction]++;
        else ++*(errno == EAGAIN || errno == ENOBUFS ? &w->count.send_full : &w->count.send_error)[direction];
    }
}

/* Send all; what the kernel does not take at once is dropped and counted, as late voice is worth nothing. */
static void send_all(wire *w, int fd, side *s, int direction) {
    uint64_t refused = w->count.send_full[direction] + w->count.send_error[direction];
    couple(s);
    for (uint32_t i = 0; i < s->trains;) {
        int sent = sendmmsg(fd, s->to_send + i, s->trains - i, MSG_DONTWAIT);
        if (sent > 0) {
            i += (uint32_t)sent;
            w->count.messages[direction] += (uint32_t)sent;
            continue;
        }
        if (errno == EINTR) continue;
        struct msghdr *m = &s->to_send[i].msg_hdr;
        if (errno == EAGAIN || errno == ENOBUFS) {
            w->count.send_full[direction] += m->msg_iovlen;
        } else if (m->msg_iovlen > 1 && (errno == EINVAL || errno == EIO || errno == EMSGSIZE)) {
            /* An old kernel (EINVAL), a device without checksums or a tunnel (EIO), a small MTU (EMSGSIZE, EINVAL):
               segments are not for here, and what a single datagram's error is will show singly. */
            w->segmenting[direction] = 0;
            w->count.segments_error[direction] = (uint64_t)errno;
            send_singly(w, fd, m, direction);
        } else {
            /* No route, a firewall, no memory: single datagrams would fare no better, and it may pass. */
            w->count.send_error[direction] += m->msg_iovlen;
        }
        i++;
    }
    refused = w->count.send_full[direction] + w->count.send_error[direction] - refused;
    w->count.forwarded[direction] += s->out - refused;
    w->trains += s->trains;
}

static int receive(side *s, wire *w) {
    for (uint32_t i = 0; i < w->batch; i++) {
        struct msghdr *m = &s->received[i].msg_hdr;
        if (m->msg_controllen == CONTROL_BYTES) break; /* untouched since it was last made ready */
        m->msg_namelen = sizeof s->from[i];
        m->msg_controllen = CONTROL_BYTES;
    }
    int n = recvmmsg(s->fd, s->received, w->batch, MSG_DONTWAIT, NULL);
    s->more = n == (int)w->batch;
    return n;
}

static void leave(side *s, int i, const uint8_t *data, uint32_t bytes, int64_t at_ns, int tos) {
    s->left[s->left_count++] = (wire_datagram){
        .data = (uint8_t *)data, .bytes = bytes, .tos = tos, .at_ns = at_ns,
        .source = (uint8_t *)&s->from[i], .source_bytes = s->received[i].msg_hdr.msg_namelen};
}

/* The flow of what a transceiver sent: only by the very header that the loop has verified, from the transceiver whose
   flow it is. */
static wire_flow *flow_of_header(wire *w, const uint8_t *data, uint32_t bytes, uint32_t header, const address *from,
                                 uint32_t from_bytes) {
    uint64_t key[3] = {0, 0, 0};
    if (bytes < header || data[0] != MAGIC_DOWN || (data[1] & IPV6_FLAG) != (w->ipv6 ? IPV6_FLAG : 0)) return NULL;
    memcpy(key, data + CLIENT_AT, w->ipv6 ? KEY_BYTES_V6 : KEY_BYTES_V4);
    uint32_t slot = flow_find(&w->index, key);
    if (slot == NONE) return NULL;
    wire_flow *flow = &w->index.flows[slot];
    return flow->down_bytes == header && !memcmp(flow->down, data, header) && flow->transceiver_bytes == from_bytes &&
                   !memcmp(flow->transceiver, from, from_bytes)
               ? flow
               : NULL;
}

static inline __attribute__((always_inline)) void forward(wire *w, const int direction) {
    side *s = &w->sides[direction];
    uint32_t header =
        direction == UP ? 0 : CLIENT_AT + (w->ipv6 ? KEY_BYTES_V6 : KEY_BYTES_V4) + WIRE_SESSION_BYTES + WIRE_MAC_BYTES;
    int n = receive(s, w);
    if (n < 0) w->count.receive_error[direction] += errno != EAGAIN && errno != EINTR;
    int64_t oldest_ns = w->late_ns ? clock_ns(CLOCK_REALTIME) - w->late_ns : INT64_MIN;
    s->out = s->trains = 0;
    for (int i = 0; i < n; i++) {
        uint8_t *data = s->in[i].iov_base;
        uint32_t bytes = s->received[i].msg_len;
        int64_t at_ns = 0;
        int tos = UNKNOWN_TOS;
        wire_flow *flow = NULL;
        if (s->received[i].msg_hdr.msg_flags & MSG_TRUNC) {
            w->count.oversize[direction]++;
            continue;
        }
        read_control(w, direction, &s->received[i].msg_hdr, &at_ns, &tos);
        if (!at_ns) at_ns = clock_ns(CLOCK_REALTIME);
        if (direction == DOWN) {
            flow = flow_of_header(w, data, bytes, header, &s->from[i], s->received[i].msg_hdr.msg_namelen);
            if (!flow) {
                leave(s, i, data, bytes, at_ns, tos);
                continue;
            }
        }
        uint8_t *payload = data + header;
        uint32_t size = bytes - header;
        if (is_stun(payload, size)) {
            leave(s, i, data, bytes, at_ns, tos);
            continue;
        }
        if (!is_media(payload, size)) {
            w->count.unknown_kind[direction]++;
            continue;
        }
        if (direction == UP) {
            uint64_t key[3];
            key_of_source(&s->from[i], key);
            uint32_t slot = flow_find(&w->index, key);
            if (slot == NONE) {
                /* A check before it in this batch may be about to open its flow. */
                if (s->left_count) leave(s, i, data, bytes, at_ns, tos);
                else w->count.unknown_source++;
                continue;
            }
            flow = &w->index.flows[slot];
            flow->seen_ns = w->now_ns;
        }
        int rtp = is_rtp(payload, size);
        if (rtp && w->record) capture(w, flow, direction, payload, size, at_ns, tos);
        if (rtp && at_ns < oldest_ns) {
            w->count.late[direction]++;
            continue;
        }
        if (direction == UP) {
            payload = memcpy(payload - flow->up_bytes, flow->up, flow->up_bytes);
            size += flow->up_bytes;
        }
        enqueue(w, s, flow, direction, payload, size);
    }
    if (s->out) send_all(w, w->sides[1 - direction].fd, s, direction);
}

int wire_turn(wire *w, int64_t timeout_ns) {
    struct pollfd ready[2] = {{w->sides[UP].fd, POLLIN, 0}, {w->sides[DOWN].fd, POLLIN, 0}};
    int64_t linger_ns = timeout_ns ? LINGER_NS : 0, ends_ns = 0;
    w->sides[UP].left_count = w->sides[DOWN].left_count = 0;
    w->behind = 1;
    if (!w->punctual) {
        prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL); /* this thread's; otherwise 50 us are added to each short sleep */
        w->punctual = 1;
    }
    for (;;) {
        struct timespec wait = {timeout_ns / 1000000000, timeout_ns % 1000000000};
        int n = ppoll(ready, 2, &wait, NULL);
        if (n < 0 && errno != EINTR) return -1;
        int64_t now_ns = clock_ns(CLOCK_MONOTONIC);
        w->now_ns = (uint64_t)now_ns;
        w->sides[UP].more = w->sides[DOWN].more = 0;
        if (n > 0 && ready[UP].revents) forward(w, UP);
        if (n > 0 && ready[DOWN].revents) forward(w, DOWN);
        w->behind &= w->sides[UP].more | w->sides[DOWN].more;
        int left = w->sides[UP].left_count + w->sides[DOWN].left_count;
        if (!ends_ns) ends_ns = now_ns + linger_ns;
        if (n <= 0 || left || now_ns >= ends_ns) return left;
        if (!w->behind) nanosleep(&(struct timespec){0, GATHER_NS}, NULL);
        timeout_ns = ends_ns - now_ns;
    }
}

int wire_left(wire *w, int direction, wire_datagram **datagrams) {
    *datagrams = w->sides[direction].left;
    return w->sides[direction].left_count;
}
