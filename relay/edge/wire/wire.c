/* The edge's hot path: recvmmsg, look the flow up, capture, sendmmsg. It makes no decision that allocates: STUN, and
   whatever follows no flow, is left to the loop, which holds the rules. Single-threaded; no allocation after the start. */

#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "wire.h"

#ifndef SO_RXQ_OVFL
#define SO_RXQ_OVFL 40
#endif

#define NONE 0xFFFFFFFFu

enum { UP, DOWN, CONTROL_BYTES = 256, UNKNOWN_TOS = -1 };
enum { MAGIC_DOWN = 0x5F, IPV6_FLAG = 1, CLIENT_AT = 2, KEY_BYTES_V4 = 6, KEY_BYTES_V6 = 18 };
/* RFC 7983, section 7, by the first byte; RFC 5761, section 4, by the second. */
enum { STUN_MAX = 3, DTLS_MIN = 20, DTLS_MAX = 63, RTP_MIN = 128, RTP_MAX = 191, RTCP_MIN = 192, RTCP_MAX = 223 };
enum { RTP_BYTES_MIN = 12 };

typedef struct {
    int fd;
    uint32_t dropped_by_kernel;
    int more;
    uint8_t *data;
    uint8_t (*control)[CONTROL_BYTES];
    struct sockaddr_storage *from;
    struct iovec *in;
    struct mmsghdr *received;
    struct iovec (*out)[2];
    struct mmsghdr *to_send;
    wire_datagram *left;
    int left_count;
} side;

struct wire {
    side sides[2];              /* by where datagrams come from: clients, transceivers */
    wire_flow *flows;
    uint32_t *index;            /* open addressing, linear probing, twice the flows at least */
    uint32_t mask;
    uint32_t batch;
    uint64_t seeds[2];
    uint64_t now_ns;
    int64_t late_ns;
    int ipv6, record, shed;
    wire_counters count;
    wire_capture rows;
};

int wire_version(void) { return WIRE_VERSION; }
wire_flow *wire_flows(wire *w) { return w->flows; }
wire_counters *wire_count(wire *w) { return &w->count; }
wire_capture *wire_rows(wire *w) { return &w->rows; }
int wire_behind(wire *w) { return w->sides[0].more | w->sides[1].more; }
uint64_t wire_now(wire *w) { return w->now_ns; }

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
    s->data = calloc(n, WIRE_SLOT_BYTES);
    s->control = calloc(n, CONTROL_BYTES);
    s->from = calloc(n, sizeof *s->from);
    s->in = calloc(n, sizeof *s->in);
    s->received = calloc(n, sizeof *s->received);
    s->out = calloc(n, sizeof *s->out);
    s->to_send = calloc(n, sizeof *s->to_send);
    s->left = calloc(n, sizeof *s->left);
    if (!s->data || !s->control || !s->from || !s->in || !s->received || !s->out || !s->to_send || !s->left)
        return 0;
    for (uint32_t i = 0; i < n; i++) {
        s->in[i] = (struct iovec){s->data + (size_t)i * WIRE_SLOT_BYTES, WIRE_SLOT_BYTES};
        s->received[i].msg_hdr = (struct msghdr){.msg_name = &s->from[i], .msg_iov = &s->in[i], .msg_iovlen = 1,
                                                 .msg_control = s->control[i]};
        s->to_send[i].msg_hdr.msg_iov = s->out[i];
    }
    return 1;
}

wire *wire_new(int public_fd, int internal_fd, int ipv6, uint32_t flows, uint32_t batch, const uint64_t *seeds) {
    wire *w = calloc(1, sizeof *w);
    uint32_t places = 64;
    if (!w) return NULL;
    while (places < flows * 2) places *= 2;
    w->mask = places - 1;
    w->batch = batch;
    w->ipv6 = ipv6;
    memcpy(w->seeds, seeds, sizeof w->seeds);
    w->flows = calloc(flows, sizeof *w->flows);
    w->index = malloc(places * sizeof *w->index);
    if (!w->flows || !w->index || !side_new(&w->sides[UP], public_fd, batch) ||
        !side_new(&w->sides[DOWN], internal_fd, batch)) {
        wire_free(w);
        return NULL;
    }
    memset(w->index, 0xFF, places * sizeof *w->index);
    return w;
}

void wire_free(wire *w) {
    for (int d = UP; d <= DOWN; d++) {
        side *s = &w->sides[d];
        free(s->data); free(s->control); free(s->from); free(s->in); free(s->received);
        free(s->out); free(s->to_send); free(s->left);
    }
    free(w->flows);
    free(w->index);
    free(w);
}

/* Seeded: nobody who picks ports can make chains. */
__extension__ typedef unsigned __int128 wide;

static uint32_t place_of(const wire *w, const uint64_t key[3]) {
    wide a = (wide)(key[0] ^ w->seeds[0]) * (key[1] ^ w->seeds[1] ^ 0x9E3779B97F4A7C15u);
    uint64_t b = (uint64_t)a ^ (uint64_t)(a >> 64) ^ key[2];
    a = (wide)(b ^ w->seeds[1]) * 0xD6E8FEB86659FD93u;
    return (uint32_t)((uint64_t)a ^ (uint64_t)(a >> 64)) & w->mask;
}

static uint32_t find(const wire *w, const uint64_t key[3]) {
    for (uint32_t at = place_of(w, key);; at = (at + 1) & w->mask) {
        uint32_t slot = w->index[at];
        if (slot == NONE) return NONE;
        if (!memcmp(w->flows[slot].key, key, sizeof w->flows[slot].key)) return slot;
    }
}

void wire_open(wire *w, uint32_t slot) {
    uint32_t at = place_of(w, w->flows[slot].key);
    while (w->index[at] != NONE) at = (at + 1) & w->mask;
    w->index[at] = slot;
}

void wire_close(wire *w, uint32_t slot) {
    uint32_t at = place_of(w, w->flows[slot].key), hole;
    while (w->index[at] != slot) {
        if (w->index[at] == NONE) return;
        at = (at + 1) & w->mask;
    }
    /* Close the gap instead of marking it: the table stays as good as new, whatever comes and goes. */
    for (hole = at;;) {
        at = (at + 1) & w->mask;
        if (w->index[at] == NONE) break;
        uint32_t home = place_of(w, w->flows[w->index[at]].key);
        if (((at - home) & w->mask) >= ((at - hole) & w->mask)) {
            w->index[hole] = w->index[at];
            hole = at;
        }
    }
    w->index[hole] = NONE;
    memset(&w->flows[slot], 0, sizeof w->flows[slot]);
}

static void key_of_source(const struct sockaddr_storage *from, uint64_t key[3]) {
    uint8_t *bytes = (uint8_t *)key;
    key[0] = key[1] = key[2] = 0;
    if (from->ss_family == AF_INET) {
        const struct sockaddr_in *a = (const struct sockaddr_in *)from;
        memcpy(bytes, &a->sin_port, 2);
        memcpy(bytes + 2, &a->sin_addr, 4);
    } else {
        const struct sockaddr_in6 *a = (const struct sockaddr_in6 *)from;
        memcpy(bytes, &a->sin6_port, 2);
        memcpy(bytes + 2, &a->sin6_addr, 16);
        /* A link-local address means nothing without its scope, which no header carries. */
        if (a->sin6_scope_id) memset(bytes + 18, 0xFF, 6);
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

/* Send all; what the kernel does not take at once is dropped and counted, as late voice is worth nothing. */
static void send_all(wire *w, int fd, side *s, uint32_t n, int direction) {
    for (uint32_t i = 0; i < n;) {
        int sent = sendmmsg(fd, s->to_send + i, n - i, MSG_DONTWAIT);
        if (sent > 0) {
            i += (uint32_t)sent;
            continue;
        }
        if (errno == EINTR) continue;
        ++*(errno == EAGAIN || errno == ENOBUFS ? &w->count.send_full : &w->count.send_error)[direction];
        i++;
    }
    w->count.forwarded[direction] += n;
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

static void forward_up(wire *w) {
    side *s = &w->sides[UP];
    int n = receive(s, w);
    uint32_t out = 0;
    if (n < 0) w->count.receive_error[UP] += errno != EAGAIN && errno != EINTR;
    int64_t oldest_ns = w->late_ns ? clock_ns(CLOCK_REALTIME) - w->late_ns : INT64_MIN;
    for (int i = 0; i < n; i++) {
        const uint8_t *data = s->in[i].iov_base;
        uint32_t bytes = s->received[i].msg_len;
        int64_t at_ns = 0;
        int tos = UNKNOWN_TOS;
        uint64_t key[3];
        if (s->received[i].msg_hdr.msg_flags & MSG_TRUNC) {
            w->count.oversize[UP]++;
            continue;
        }
        read_control(w, UP, &s->received[i].msg_hdr, &at_ns, &tos);
        if (!at_ns) at_ns = clock_ns(CLOCK_REALTIME);
        if (is_stun(data, bytes)) {
            leave(s, i, data, bytes, at_ns, tos);
            continue;
        }
        if (!is_media(data, bytes)) {
            w->count.unknown_kind[UP]++;
            continue;
        }
        key_of_source(&s->from[i], key);
        uint32_t slot = find(w, key);
        if (slot == NONE) {
            /* A check before it in this batch may be about to open its flow. */
            if (s->left_count) leave(s, i, data, bytes, at_ns, tos);
            else w->count.unknown_source++;
            continue;
        }
        wire_flow *flow = &w->flows[slot];
        flow->seen_ns = w->now_ns;
        int rtp = is_rtp(data, bytes);
        if (rtp && w->record) capture(w, flow, UP, data, bytes, at_ns, tos);
        if (rtp && at_ns < oldest_ns) {
            w->count.late[UP]++;
            continue;
        }
        s->out[out][0] = (struct iovec){flow->up, flow->up_bytes};
        s->out[out][1] = (struct iovec){(void *)data, bytes};
        struct msghdr *m = &s->to_send[out++].msg_hdr;
        m->msg_iovlen = 2;
        m->msg_name = flow->transceiver;
        m->msg_namelen = flow->transceiver_bytes;
    }
    if (out) send_all(w, w->sides[DOWN].fd, s, out, UP);
}

static void forward_down(wire *w) {
    side *s = &w->sides[DOWN];
    uint32_t key_bytes = w->ipv6 ? KEY_BYTES_V6 : KEY_BYTES_V4;
    uint32_t header = CLIENT_AT + key_bytes + WIRE_SESSION_BYTES + WIRE_MAC_BYTES;
    int n = receive(s, w);
    uint32_t out = 0;
    if (n < 0) w->count.receive_error[DOWN] += errno != EAGAIN && errno != EINTR;
    int64_t oldest_ns = w->late_ns ? clock_ns(CLOCK_REALTIME) - w->late_ns : INT64_MIN;
    for (int i = 0; i < n; i++) {
        const uint8_t *data = s->in[i].iov_base;
        uint32_t bytes = s->received[i].msg_len;
        int64_t at_ns = 0;
        int tos = UNKNOWN_TOS;
        uint64_t key[3] = {0, 0, 0};
        uint32_t slot = NONE;
        if (s->received[i].msg_hdr.msg_flags & MSG_TRUNC) {
            w->count.oversize[DOWN]++;
            continue;
        }
        read_control(w, DOWN, &s->received[i].msg_hdr, &at_ns, &tos);
        if (!at_ns) at_ns = clock_ns(CLOCK_REALTIME);
        if (bytes >= header && data[0] == MAGIC_DOWN && (data[1] & IPV6_FLAG) == (w->ipv6 ? IPV6_FLAG : 0)) {
            memcpy(key, data + CLIENT_AT, key_bytes);
            slot = find(w, key);
        }
        wire_flow *flow = slot == NONE ? NULL : &w->flows[slot];
        /* Only the very header that the loop has verified, from the transceiver whose flow it is. */
        if (!flow || flow->down_bytes != header || memcmp(flow->down, data, header) ||
            flow->transceiver_bytes != s->received[i].msg_hdr.msg_namelen ||
            memcmp(flow->transceiver, &s->from[i], flow->transceiver_bytes)) {
            leave(s, i, data, bytes, at_ns, tos);
            continue;
        }
        const uint8_t *payload = data + header;
        uint32_t size = bytes - header;
        if (is_stun(payload, size)) {
            leave(s, i, data, bytes, at_ns, tos);
            continue;
        }
        if (!is_media(payload, size)) {
            w->count.unknown_kind[DOWN]++;
            continue;
        }
        int rtp = is_rtp(payload, size);
        if (rtp && w->record) capture(w, flow, DOWN, payload, size, at_ns, tos);
        if (rtp && at_ns < oldest_ns) {
            w->count.late[DOWN]++;
            continue;
        }
        s->out[out][0] = (struct iovec){(void *)payload, size};
        struct msghdr *m = &s->to_send[out++].msg_hdr;
        m->msg_iovlen = 1;
        m->msg_name = flow->client;
        m->msg_namelen = flow->client_bytes;
    }
    if (out) send_all(w, w->sides[UP].fd, s, out, DOWN);
}

int wire_turn(wire *w, int timeout_ms) {
    struct pollfd ready[2] = {{w->sides[UP].fd, POLLIN, 0}, {w->sides[DOWN].fd, POLLIN, 0}};
    w->sides[UP].left_count = w->sides[DOWN].left_count = 0;
    if (poll(ready, 2, timeout_ms) < 0 && errno != EINTR) return -1;
    w->now_ns = (uint64_t)clock_ns(CLOCK_MONOTONIC);
    w->sides[UP].more = w->sides[DOWN].more = 0;
    if (ready[UP].revents) forward_up(w);
    if (ready[DOWN].revents) forward_down(w);
    return w->sides[UP].left_count + w->sides[DOWN].left_count;
}

int wire_left(wire *w, int direction, wire_datagram **datagrams) {
    *datagrams = w->sides[direction].left;
    return w->sides[direction].left_count;
}
