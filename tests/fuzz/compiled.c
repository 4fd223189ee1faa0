/* The edge's compiled half under the sanitizers: datagrams from files, mutated, through its sockets, and what was
   captured, mutated again, through to packed columns. Whatever the sanitizers do not like ends it; so does a sum that
   is wrong. Usage: compiled SEED RUNS SECONDS FILE... */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "wire.h"
#include "derive.h"

enum { FLOWS = 4, CLIENTS = 3, BYTES_MAX = 3000, ROWS_MAX = 96, OWNERS = 6, SENT_MAX = 24, STRANGER = CLIENTS - 1 };
enum { SO_RXQ_OVFL_ = 40 };

#define check(what)                                                                    \
    do {                                                                               \
        if (!(what)) {                                                                 \
            fprintf(stderr, "%s:%d: not so: %s (run %lu)\n", __FILE__, __LINE__, #what, run); \
            abort();                                                                   \
        }                                                                              \
    } while (0)

typedef struct {
    uint8_t *data;
    size_t bytes;
} blob;

static unsigned long run;
static uint64_t chance_state;
static blob *files;
static size_t file_count;
static volatile uint8_t sink;

static uint32_t chance(uint32_t below) {        /* xorshift64* */
    chance_state ^= chance_state >> 12;
    chance_state ^= chance_state << 25;
    chance_state ^= chance_state >> 27;
    return (uint32_t)((chance_state * 0x2545F4914F6CDD1Du) >> 32) % below;
}

static void *exactly(size_t bytes) {    /* so that one byte beyond is seen */
    void *made = malloc(bytes ? bytes : 1);
    check(made);
    return made;
}

static void read_all(const void *data, size_t bytes) {
    for (size_t n = 0; n < bytes; n++) sink ^= ((const uint8_t *)data)[n];
}

/* A datagram: a file's bytes, perhaps changed, cut, or with another's end; or voice whose extension lies. */
static size_t datagram(uint8_t *out) {
    static const uint8_t elements[] = {0, 0x10, 0xAA, 0x20, 0x31, 0xF0, 2, 1, 1, 1, 0x85, 0xBE, 0xDE, 0xFF, 4, 0x10};
    size_t bytes = 0;
    if (chance(3) && file_count) {
        const blob *file = &files[chance((uint32_t)file_count)];
        size_t from = file->bytes && !chance(3) ? chance((uint32_t)file->bytes) : 0;
        bytes = file->bytes - from < BYTES_MAX ? file->bytes - from : BYTES_MAX;
        memcpy(out, file->data + from, bytes);
    } else {
        const uint8_t profile[] = {0xBE, 0xDE, 0x10, (uint8_t)chance(17)};
        bytes = 12 + chance(120);
        for (size_t n = 0; n < bytes; n++) out[n] = elements[chance(sizeof elements)];
        out[0] = (uint8_t)(0x80 | (chance(2) ? 0x10 : chance(64)));
        out[1] = (uint8_t)chance(256);
        if (bytes >= 16) memcpy(out + 12, profile + 2 * chance(2), 2), out[14] = (uint8_t)(chance(9) ? 0 : 0xFF);
    }
    for (uint32_t changes = chance(4); changes && bytes; changes--) out[chance((uint32_t)bytes)] = (uint8_t)chance(256);
    if (bytes && !chance(4)) bytes = chance((uint32_t)bytes + 1);
    if (!chance(40)) {
        size_t longer = bytes + chance(BYTES_MAX - (uint32_t)bytes + 1);
        memset(out + bytes, 0x10, longer - bytes);
        bytes = longer;
    }
    return bytes;
}

static int udp(struct sockaddr_in *address) {
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0), on = 1;
    socklen_t size = sizeof *address;
    *address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    check(fd >= 0 && !bind(fd, (struct sockaddr *)address, size) && !getsockname(fd, (struct sockaddr *)address, &size));
    setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_RXQ_OVFL_, &on, sizeof on);
    setsockopt(fd, IPPROTO_IP, IP_RECVTOS, &on, sizeof on);
    return fd;
}

typedef struct {
    int fd[2], client[CLIENTS], transceiver;
    struct sockaddr_in at[2], client_at[CLIENTS], transceiver_at;
    uint32_t header;    /* of a datagram from the transceiver */
    wire *wire;
    wire_capture rows;
    uint64_t counts[4], found;
} world;

static void open_flow(world *w, uint32_t slot, int ipv6) {
    wire_flow *flow = wire_flows(w->wire) + slot;
    const struct sockaddr_in *from = &w->client_at[slot % STRANGER];
    uint8_t key[24] = {0};
    memcpy(key, &from->sin_port, 2);
    memcpy(key + 2, &from->sin_addr, 4);
    if (slot >= STRANGER) key[0] ^= (uint8_t)(slot + 1);    /* nobody's */
    memcpy(flow->key, key, sizeof key);
    flow->up_bytes = ipv6 ? 28 : 16;
    memset(flow->up, 0x5E, sizeof flow->up);
    memset(flow->down, (int)slot, sizeof flow->down);
    flow->down[0] = 0x5F;
    flow->down[1] = (uint8_t)ipv6;
    memcpy(flow->down + 2, key, ipv6 ? 18 : 6);
    flow->down_bytes = chance(8) ? w->header : 0;
    memcpy(flow->client, from, sizeof *from);
    memcpy(flow->transceiver, &w->transceiver_at, sizeof w->transceiver_at);
    flow->client_bytes = flow->transceiver_bytes = sizeof *from;
    flow->owner = chance(OWNERS + 2);
    wire_open(w->wire, slot);
}

static void world_new(world *w) {
    int ipv6 = !chance(4);
    uint64_t seeds[2] = {chance_state, ~chance_state}, rows = chance(3) ? 1 + chance(ROWS_MAX) : 1;
    for (int d = 0; d < 2; d++) w->fd[d] = udp(&w->at[d]);
    for (int n = 0; n < CLIENTS; n++) w->client[n] = udp(&w->client_at[n]);
    w->transceiver = udp(&w->transceiver_at);
    w->header = 2 + (ipv6 ? 18 : 6) + WIRE_SESSION_BYTES + WIRE_MAC_BYTES;
    w->wire = wire_new(w->fd[0], w->fd[1], ipv6, FLOWS, 1 + chance(8), seeds);
    check(w->wire);
    memset(w->counts, 0, sizeof w->counts);
    w->found = 0;
    w->rows = (wire_capture){exactly(rows * WIRE_HEAD_BYTES), exactly(rows * 8), exactly(rows * 4), exactly(rows * 2),
                             exactly(rows * 2), exactly(rows), w->counts, w->counts + 1, w->counts + 2, w->counts + 3,
                             rows};
    *wire_rows(w->wire) = w->rows;
    for (uint32_t slot = 0; slot < FLOWS; slot++) open_flow(w, slot, ipv6);
    wire_policy(w->wire, chance(8) != 0, !chance(8), chance(2) ? 0 : chance(1000000));
}

static void world_free(world *w) {
    wire_free(w->wire);
    for (int d = 0; d < 2; d++) close(w->fd[d]);
    for (int n = 0; n < CLIENTS; n++) close(w->client[n]);
    close(w->transceiver);
    free(w->rows.head), free(w->rows.at_ns), free(w->rows.owner), free(w->rows.size), free(w->rows.tos);
    free(w->rows.tap);
}

static void send_some(world *w) {
    static uint8_t data[64 + BYTES_MAX];
    for (uint32_t n = chance(SENT_MAX); n; n--) {
        int up = chance(2) != 0, tos = (int)chance(256);
        int fd = up ? w->client[chance(CLIENTS)] : chance(8) ? w->transceiver : w->client[STRANGER];
        size_t header = 0;
        if (!up && chance(8)) {
            header = w->header;
            memcpy(data, wire_flows(w->wire)[chance(FLOWS)].down, header);
            if (!chance(8)) data[chance((uint32_t)header)] ^= (uint8_t)(1 << chance(8));
        }
        size_t bytes = header + datagram(data + header);
        if (!chance(16)) bytes = chance((uint32_t)bytes + 1);
        if (!chance(4)) setsockopt(fd, IPPROTO_IP, IP_TOS, &tos, sizeof tos);
        sendto(fd, data, bytes, 0, (struct sockaddr *)&w->at[!up], sizeof w->at[0]);
    }
}

static uint64_t drained(world *w) {
    static uint8_t data[4096];
    uint64_t found = 0;
    for (int n = 0; n <= CLIENTS; n++) {
        ssize_t bytes;
        while ((bytes = recv(n < CLIENTS ? w->client[n] : w->transceiver, data, sizeof data, 0)) >= 0) {
            read_all(data, (size_t)bytes);
            found++;
        }
    }
    return found;
}

static void forward(world *w) {
    wire_counters *count = wire_count(w->wire);
    uint64_t kept = w->counts[1] - w->counts[2] - w->counts[3];
    send_some(w);
    do {
        check(wire_turn(w->wire, 0) >= 0);
        for (int d = 0; d < 2; d++) {
            wire_datagram *left;
            int number = wire_left(w->wire, d, &left);
            for (int n = 0; n < number; n++) {
                read_all(left[n].data, left[n].bytes);
                read_all(left[n].source, left[n].source_bytes);
            }
        }
    } while (wire_behind(w->wire));
    w->found += drained(w);     /* on a busy machine some of it was sent a turn before */
    check(w->found <= count->forwarded[0] + count->forwarded[1]);
    check(!count->send_error[0] && !count->send_error[1]);      /* a length that is none would be refused */
    check(w->counts[0] <= w->rows.capacity && w->counts[0] == w->counts[1] - w->counts[2] - w->counts[3] - kept);
    if (!chance(16)) {
        uint32_t slot = chance(FLOWS);
        wire_close(w->wire, slot);
        open_flow(w, slot, w->header > 40);
    }
}

/* Rows as they were captured, or with a stranger's bytes in their heads. */
static void derive_some(world *w, derive *d) {
    static uint8_t data[64 + BYTES_MAX];
    uint64_t rows = w->counts[0], at;
    uint8_t *sessions = exactly(OWNERS * WIRE_SESSION_BYTES), *level_ids = exactly(OWNERS);
    int64_t *codes = exactly(OWNERS * sizeof *codes);
    for (int n = 0; n < OWNERS; n++) {
        memset(sessions + n * WIRE_SESSION_BYTES, n / 2, WIRE_SESSION_BYTES);
        codes[n] = n / 2 - 1;
        level_ids[n] = (uint8_t)chance(17);
    }
    if (!rows || chance(2)) rows = chance((uint32_t)w->rows.capacity + 1);
    for (at = w->counts[0]; at < rows || (at && at - 1 < rows && !chance(3)); at++) {
        uint64_t row = at < rows ? at : chance((uint32_t)rows);
        size_t bytes = datagram(data);
        memset(w->rows.head + row * WIRE_HEAD_BYTES, 0, WIRE_HEAD_BYTES);
        memcpy(w->rows.head + row * WIRE_HEAD_BYTES, data, bytes < WIRE_HEAD_BYTES ? bytes : WIRE_HEAD_BYTES);
        w->rows.at_ns[row] = chance(16) ? (int64_t)run * 20000000 + chance(40000000)
                                        : (int64_t)((uint64_t)chance(UINT32_MAX) << 32 | chance(UINT32_MAX));
        w->rows.owner[row] = chance(OWNERS + 2);
        w->rows.size[row] = (uint16_t)(chance(4) ? bytes : chance(65536));
        w->rows.tos[row] = (int16_t)(chance(257) - 1);
        w->rows.tap[row] = (uint8_t)chance(chance(8) ? 2 : 256);
    }
    if (rows && !chance(2))     /* few streams, small steps: what statistics are about */
        for (uint64_t row = 0; row < rows; row++) {
            uint8_t *head = w->rows.head + row * WIRE_HEAD_BYTES;
            uint32_t seq = (uint32_t)(run * 7 + row + chance(3) + (chance(20) ? 0 : chance(70000)));
            memset(head + 8, 0, 3);
            head[2] = (uint8_t)(seq >> 8), head[3] = (uint8_t)seq, head[11] = (uint8_t)chance(3);
        }
    derive_rows taken = {w->rows.head, w->rows.at_ns, w->rows.owner, w->rows.size, w->rows.tos, w->rows.tap, rows,
                         sessions, codes, level_ids, OWNERS};
    uint64_t refused = derive_refused(d), step = 1 + chance(40);
    check(!derive_begin(d, &taken));
    for (at = 0; at < rows; at += step) derive_scan(d, at, at + step < rows ? at + step : rows);
    uint64_t packets = derive_arrange(d);
    check(packets + derive_refused(d) - refused == rows);
    for (at = 0; at < rows; at += step) derive_place(d, at, at + step < rows ? at + step : rows);
    size_t n = packets, bits = (n + 7) / 8;
    derive_columns out = {exactly(n * WIRE_SESSION_BYTES), exactly(n * 8), exactly(n), exactly(n * 4), exactly(n * 8),
                          exactly(n * 4), exactly(n), exactly(n), exactly(n * 2), exactly(n), exactly(n), exactly(n),
                          exactly(n * 2), exactly(n * 4), exactly(n), exactly(n * 4), exactly(n), exactly(n)};
    derive_packed packed = {exactly(n * 8), exactly(n * 4), exactly(n * 4), exactly(n), exactly(bits), exactly(bits),
                            exactly(bits), exactly(bits), exactly(bits), exactly(bits), exactly(bits)};
    int64_t missing = (int64_t)(derive_lost(d) - derive_found(d));
    for (at = 0; at < packets; at += step) derive_fill(d, at, at + step < packets ? at + step : packets, &out);
    for (at = 0; at < packets; at += 8 * step)
        derive_pack(&out, at, at + 8 * step < packets ? at + 8 * step : packets, 16000, &packed);
    for (at = 0; at < packets; at++) {
        missing += out.newly_lost[at];
        check(out.transit_known[at] <= 1 && out.marker[at] <= 1 && out.voice[at] <= 1 && out.has_level[at] <= 1);
        check(!(out.reordered[at] && out.duplicate[at]) && out.level[at] <= 0 && out.tap[at] <= 1);
        check(out.transit_known[at] == (packed.transit_valid[at / 8] >> at % 8 & 1));
        check(packed.observed_ns[at] % 16000 == 0 && packed.transit_delta_us[at] % 16 == 0);
    }
    check(missing == (int64_t)(derive_lost(d) - derive_found(d)));
    read_all(out.session, n * WIRE_SESSION_BYTES);
    void *columns[] = {out.session, out.observed_ns, out.tap, out.stream, out.ext_seq, out.rtp_ts, out.payload_type,
                       out.marker, out.size_bytes, out.level, out.voice, out.has_level, out.tos, out.transit_delta_us,
                       out.transit_known, out.newly_lost, out.reordered, out.duplicate, packed.observed_ns, packed.tap,
                       packed.transit_delta_us, packed.dscp, packed.marker, packed.voice, packed.reordered,
                       packed.duplicate, packed.level_valid, packed.dscp_valid, packed.transit_valid, sessions,
                       level_ids, codes};
    for (size_t column = 0; column < sizeof columns / sizeof *columns; column++) free(columns[column]);
    if (!chance(8)) derive_forget(d, chance(2) ? INT64_MAX : (int64_t)run * 20000000);
    check(derive_streams(d) <= 3 * 2 * 8);
    w->counts[0] = 0;
}

static void load(int number, char **names) {
    files = exactly((size_t)number * sizeof *files);
    for (int n = 0; n < number; n++) {
        FILE *file = fopen(names[n], "rb");
        check(file);
        uint8_t *data = exactly(65536);
        files[file_count++] = (blob){data, fread(data, 1, 65536, file)};
        fclose(file);
    }
}

int main(int given, char **argument) {
    if (given < 4) return 2;
    unsigned long runs = strtoul(argument[2], NULL, 10), packets = 0;
    time_t ends = time(NULL) + strtol(argument[3], NULL, 10);
    chance_state = strtoull(argument[1], NULL, 10) * 0x9E3779B97F4A7C15u + 1;
    load(given - 4, argument + 4);
    derive *d = derive_new(8, chance_state);
    check(d);
    world w;
    world_new(&w);
    for (run = 0; runs ? run < runs : time(NULL) < ends; run++) {
        forward(&w);
        packets += w.counts[0];
        derive_some(&w, d);
        if (!chance(64)) {
            world_free(&w);
            world_new(&w);
        }
        if (!chance(256)) {
            derive_free(d);
            d = derive_new(8, chance_state);
            check(d);
        }
    }
    world_free(&w);
    derive_free(d);
    for (size_t n = 0; n < file_count; n++) free(files[n].data);
    free(files);
    printf("%lu runs, %lu packets captured\n", run, packets);
    return 0;
}
