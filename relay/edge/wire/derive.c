/* Packet facts from captured rows. Heads are foreign bytes: nothing in them is an index before it was compared. */

#define _GNU_SOURCE
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "wire.h"
#include "derive.h"

#define NONE 0xFFFFFFFFu

enum { TAP_ITSELF = 2 };        /* in place of a tap, which is in place of the SSRC: counts a session's streams there */
enum { FIXED_BYTES = 12, ONE_BYTE_PROFILE = 0xBEDE, TWO_BYTE_PROFILE = 0x100, STOP_ID = 15 };
enum { MAX_DROPOUT = 3000, MAX_MISORDER = 100, CLOCK_RATE = 48000, NO_SEQ = -1 };       /* RFC 3550, A.1 */
enum { SORTED_STREAMS_MAX = 4096 };     /* to sort more takes longer than voice should wait */

__extension__ typedef unsigned __int128 bits128;

/* `voice.sequence.StreamStats`, without what no fact says. */
typedef struct {
    int64_t code;
    uint32_t ssrc;
    uint8_t tap;
    uint8_t begun, gone;
    int32_t bad_seq;
    uint32_t last_ts;
    int64_t ext_max, base, last_arrival_ns;
    bits128 seen;               /* bit i: ext_max - i has arrived */
    int64_t last_ns;
    const uint8_t *session;     /* while rows are worked on */
    uint64_t rows, at;          /* of these rows; of a tap itself: its streams */
} stream;

struct derive {
    stream *streams;
    uint32_t *index;            /* open addressing, linear probing, at most half full */
    uint32_t count, capacity, mask;
    uint32_t per_tap;
    uint64_t seed;
    uint32_t *touched;
    uint32_t touched_count;
    uint32_t *stream_of, *order;
    uint64_t room;
    uint64_t refused, lost, found;
    derive_rows rows;
};

static uint32_t big32(const uint8_t *at) {
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static uint32_t big16(const uint8_t *at) { return (uint32_t)at[0] << 8 | at[1]; }

static int64_t floor_div(int64_t value, int64_t by) {
    int64_t whole = value / by;
    return whole - (value % by < 0);
}

/* Times are the kernel's, and may jump: their differences wrap, as numpy's do. */
static int64_t minus(int64_t a, int64_t b) { return (int64_t)((uint64_t)a - (uint64_t)b); }

/* Streams */

static uint32_t place_of(const derive *d, int64_t code, uint32_t tap, uint32_t ssrc) {
    uint64_t mixed = ((uint64_t)code << 2 | tap) * 0x9E3779B97F4A7C15u ^ (ssrc + d->seed) * 0xD6E8FEB86659FD93u;
    mixed ^= mixed >> 32;
    mixed *= 0xD6E8FEB86659FD93u;
    return (uint32_t)(mixed >> 32) & d->mask;
}

static uint32_t find(const derive *d, int64_t code, uint32_t tap, uint32_t ssrc) {
    for (uint32_t at = place_of(d, code, tap, ssrc);; at = (at + 1) & d->mask) {
        uint32_t slot = d->index[at];
        if (slot == NONE) return NONE;
        const stream *s = &d->streams[slot];
        if (s->code == code && s->ssrc == ssrc && s->tap == tap) return slot;
    }
}

static void enter(derive *d, uint32_t slot) {
    const stream *s = &d->streams[slot];
    uint32_t at = place_of(d, s->code, s->tap, s->ssrc);
    while (d->index[at] != NONE) at = (at + 1) & d->mask;
    d->index[at] = slot;
}

static void index_all(derive *d) {
    memset(d->index, 0xFF, ((size_t)d->mask + 1) * sizeof *d->index);
    for (uint32_t slot = 0; slot < d->count; slot++) enter(d, slot);
}

static int grow(derive *d) {
    uint32_t capacity = d->capacity ? d->capacity * 2 : 64;
    if (capacity > NONE / 4) return 0;
    stream *streams = realloc(d->streams, capacity * sizeof *streams);
    if (streams) d->streams = streams;
    uint32_t *touched = realloc(d->touched, capacity * sizeof *touched);
    if (touched) d->touched = touched;
    uint32_t *index = malloc((size_t)capacity * 2 * sizeof *index);
    if (!streams || !touched || !index) {
        free(index);
        return 0;
    }
    free(d->index);
    d->index = index;
    d->capacity = capacity;
    d->mask = capacity * 2 - 1;
    index_all(d);
    return 1;
}

static uint32_t open_entry(derive *d, int64_t code, uint32_t tap, uint32_t ssrc) {
    if (d->count == d->capacity && !grow(d)) return NONE;
    d->streams[d->count] = (stream){.code = code, .tap = (uint8_t)tap, .ssrc = ssrc, .bad_seq = NO_SEQ};
    enter(d, d->count);
    return d->count++;
}

static uint32_t open_stream(derive *d, int64_t code, uint32_t tap, uint32_t ssrc) {
    uint32_t itself = find(d, code, TAP_ITSELF, tap);
    if (itself == NONE) itself = open_entry(d, code, TAP_ITSELF, tap);
    if (itself == NONE || d->streams[itself].rows >= d->per_tap) return NONE;
    uint32_t slot = open_entry(d, code, tap, ssrc);
    if (slot != NONE) d->streams[itself].rows++;
    return slot;
}

derive *derive_new(uint32_t streams_per_tap, uint64_t seed) {
    derive *d = calloc(1, sizeof *d);
    if (!d) return NULL;
    d->per_tap = streams_per_tap;
    d->seed = seed;
    if (!grow(d)) {
        derive_free(d);
        return NULL;
    }
    return d;
}

void derive_free(derive *d) {
    free(d->streams);
    free(d->index);
    free(d->touched);
    free(d->stream_of);
    free(d->order);
    free(d);
}

uint64_t derive_refused(const derive *d) { return d->refused; }
uint64_t derive_lost(const derive *d) { return d->lost; }
uint64_t derive_found(const derive *d) { return d->found; }

uint64_t derive_streams(const derive *d) {
    uint64_t found = 0;
    for (uint32_t slot = 0; slot < d->count; slot++) found += d->streams[slot].tap != TAP_ITSELF;
    return found;
}

void derive_forget(derive *d, int64_t before_ns) {
    uint32_t kept = 0;
    for (uint32_t slot = 0; slot < d->count; slot++) {
        stream *s = &d->streams[slot];
        if (s->tap == TAP_ITSELF || s->last_ns >= before_ns) continue;
        s->gone = 1;
        d->streams[find(d, s->code, TAP_ITSELF, s->tap)].rows--;
    }
    for (uint32_t slot = 0; slot < d->count; slot++) {
        const stream *s = &d->streams[slot];
        if (s->gone || (s->tap == TAP_ITSELF && !s->rows)) continue;
        if (kept != slot) d->streams[kept] = *s;
        kept++;
    }
    if (kept == d->count) return;
    d->count = kept;
    index_all(d);
}

/* Which row is of which stream */

int derive_begin(derive *d, const derive_rows *rows) {
    for (uint32_t slot = 0; slot < d->count; slot++)
        if (d->streams[slot].tap != TAP_ITSELF) d->streams[slot].rows = 0;
    d->touched_count = 0;
    d->rows = *rows;
    d->rows.rows = 0;
    if (rows->rows > d->room) {
        if (rows->rows >= NONE) return -1;
        uint32_t *stream_of = realloc(d->stream_of, rows->rows * sizeof *stream_of);
        if (stream_of) d->stream_of = stream_of;
        uint32_t *order = realloc(d->order, rows->rows * sizeof *order);
        if (order) d->order = order;
        if (!stream_of || !order) return -1;
        d->room = rows->rows;
    }
    d->rows.rows = rows->rows;
    return 0;
}

int derive_scan(derive *d, uint64_t from, uint64_t to) {
    const derive_rows *r = &d->rows;
    uint32_t owner = 0, tap = 0, ssrc = 0, slot = NONE;
    int known = 0;
    if (to > r->rows) return -1;
    for (uint64_t row = from; row < to; row++) {
        uint32_t its_ssrc = big32(r->head + row * WIRE_HEAD_BYTES + 8);
        if (!known || r->owner[row] != owner || r->tap[row] != tap || its_ssrc != ssrc) {
            owner = r->owner[row], tap = r->tap[row], ssrc = its_ssrc, known = 1;
            int64_t code = owner < r->owners ? r->codes[owner] : -1;
            if (code < 0 || tap >= TAP_ITSELF) {
                slot = NONE;
            } else {
                slot = find(d, code, tap, ssrc);
                if (slot == NONE) slot = open_stream(d, code, tap, ssrc);
            }
            if (slot != NONE) {
                stream *s = &d->streams[slot];
                s->session = r->sessions + (size_t)owner * WIRE_SESSION_BYTES;
                if (!s->rows) d->touched[d->touched_count++] = slot;
            }
        }
        d->stream_of[row] = slot;
        if (slot == NONE) d->refused++;
        else d->streams[slot].rows++;
    }
    return 0;
}

/* As facts are sorted: by session, by the tap's name (down before up), by SSRC. */
static int compare(const void *left, const void *right, void *streams) {
    const stream *a = (const stream *)streams + *(const uint32_t *)left;
    const stream *b = (const stream *)streams + *(const uint32_t *)right;
    int by = memcmp(a->session, b->session, WIRE_SESSION_BYTES);
    if (by) return by;
    if (a->tap != b->tap) return b->tap - a->tap;
    return (a->ssrc > b->ssrc) - (a->ssrc < b->ssrc);
}

uint64_t derive_arrange(derive *d) {
    uint64_t at = 0;
    if (d->touched_count <= SORTED_STREAMS_MAX)
        qsort_r(d->touched, d->touched_count, sizeof *d->touched, compare, d->streams);
    for (uint32_t number = 0; number < d->touched_count; number++) {
        stream *s = &d->streams[d->touched[number]];
        s->at = at;
        at += s->rows;
    }
    return at;
}

void derive_place(derive *d, uint64_t from, uint64_t to) {
    for (uint64_t row = from; row < to && row < d->rows.rows; row++) {
        uint32_t slot = d->stream_of[row];
        if (slot != NONE) d->order[d->streams[slot].at++] = (uint32_t)row;
    }
}

/* What its place in its stream says of a packet: RFC 3550, A.1 and A.8; see `voice.sequence` */

typedef struct {
    int64_t ext_seq;
    int32_t transit_us, newly_lost;
    uint8_t transit_known, reordered, duplicate;
} arrival;

static void transit(stream *s, uint32_t rtp_ts, int64_t at_ns, arrival *out) {
    int64_t sent = (int32_t)(rtp_ts - s->last_ts);
    int64_t delta_ns = minus(minus(at_ns, s->last_arrival_ns), floor_div(sent * 1000000000, CLOCK_RATE));
    int64_t us = floor_div((int64_t)((uint64_t)delta_ns + 500), 1000);
    out->transit_us = us > INT32_MAX ? INT32_MAX : us < -INT32_MAX ? -INT32_MAX : (int32_t)us;
    out->transit_known = 1;
    s->last_arrival_ns = at_ns;
    s->last_ts = rtp_ts;
}

static void begin(stream *s, int64_t ext_seq, uint32_t rtp_ts, int64_t at_ns) {
    s->begun = 1;
    s->base = s->ext_max = ext_seq;
    s->seen = 1;
    s->last_arrival_ns = at_ns;
    s->last_ts = rtp_ts;
}

static void jump(stream *s, uint32_t seq, uint32_t ahead, uint32_t rtp_ts, int64_t at_ns, arrival *out) {
    if ((int32_t)seq == s->bad_seq) {
        begin(s, s->ext_max + ahead, rtp_ts, at_ns);
        s->base--;
        s->seen = 3;
        s->bad_seq = NO_SEQ;
        out->ext_seq = s->ext_max;
        return;
    }
    int32_t next = (int32_t)((seq + 1) & 0xFFFF);
    out->ext_seq = s->ext_max + (ahead < 0x8000 ? (int64_t)ahead : (int64_t)ahead - 0x10000);
    if (next == s->bad_seq) out->duplicate = 1;
    else s->bad_seq = next;
}

static arrival receive(stream *s, uint32_t seq, uint32_t rtp_ts, int64_t at_ns) {
    arrival out = {0};
    if (!s->begun) {
        begin(s, seq, rtp_ts, at_ns);
        out.ext_seq = seq;
        return out;
    }
    uint32_t ahead = (seq - (uint32_t)s->ext_max) & 0xFFFF;
    if (ahead > 0 && ahead < MAX_DROPOUT) {
        s->ext_max += ahead;
        s->seen = ahead < 128 ? s->seen << ahead | 1 : 1;
        out.ext_seq = s->ext_max;
        out.newly_lost = (int32_t)ahead - 1;
        transit(s, rtp_ts, at_ns, &out);
        return out;
    }
    uint32_t behind = (0x10000 - ahead) & 0xFFFF;
    if (behind >= MAX_MISORDER) {
        jump(s, seq, ahead, rtp_ts, at_ns, &out);
        return out;
    }
    out.ext_seq = s->ext_max - behind;
    if (s->seen >> behind & 1) {
        out.duplicate = 1;
        return out;
    }
    s->seen |= (bits128)1 << behind;
    out.newly_lost = -1;
    if (out.ext_seq < s->base) {
        out.newly_lost = (int32_t)(s->base - out.ext_seq - 1);
        s->base = out.ext_seq;
    }
    out.reordered = 1;
    transit(s, rtp_ts, at_ns, &out);
    return out;
}

/* The audio level's octet (RFC 6464), -1 if there is none within the bytes that were kept; see `heads`. */
static int audio_level(const uint8_t *head, uint32_t size, uint32_t level_id) {
    uint32_t kept = size < WIRE_HEAD_BYTES ? size : WIRE_HEAD_BYTES;
    uint32_t at = FIXED_BYTES + 4 * (head[0] & 0x0Fu);
    if (!level_id || !(head[0] & 0x10) || at + 4 > kept) return -1;
    uint32_t profile = big16(head + at), end = at + 4 + 4 * big16(head + at + 2);
    int one_byte = profile == ONE_BYTE_PROFILE;
    at += 4;
    if ((!one_byte && profile >> 4 != TWO_BYTE_PROFILE) || end > size) return -1;
    uint32_t limit = end < WIRE_HEAD_BYTES ? end : WIRE_HEAD_BYTES;
    while (at + 1 < limit) {    /* an element has at least one octet after its first */
        uint32_t first = head[at];
        if (!first) {
            at++;
            continue;
        }
        uint32_t id = one_byte ? first >> 4 : first;
        uint32_t length = one_byte ? (first & 0x0F) + 1 : head[at + 1];
        uint32_t data = at + (one_byte ? 1 : 2);
        if (one_byte && id == STOP_ID) return -1;
        if (id == level_id && length > 0 && data + length <= end) return data < WIRE_HEAD_BYTES ? head[data] : -1;
        at = data + length;
    }
    return -1;
}

void derive_fill(derive *d, uint64_t from, uint64_t to, const derive_columns *out) {
    const derive_rows *r = &d->rows;
    for (uint64_t n = from; n < to; n++) {
        uint32_t row = d->order[n];
        stream *s = &d->streams[d->stream_of[row]];
        const uint8_t *head = r->head + (size_t)row * WIRE_HEAD_BYTES;
        uint32_t rtp_ts = big32(head + 4);
        int64_t at_ns = r->at_ns[row];
        arrival a = receive(s, big16(head + 2), rtp_ts, at_ns);
        int level = audio_level(head, r->size[row], r->level_ids[r->owner[row]]);
        s->last_ns = at_ns;
        if (a.newly_lost < 0) d->found++;
        else d->lost += (uint64_t)a.newly_lost;
        memcpy(out->session + n * WIRE_SESSION_BYTES, s->session, WIRE_SESSION_BYTES);
        out->observed_ns[n] = at_ns;
        out->tap[n] = s->tap;
        out->stream[n] = s->ssrc;
        out->ext_seq[n] = a.ext_seq;
        out->rtp_ts[n] = rtp_ts;
        out->payload_type[n] = head[1] & 0x7F;
        out->marker[n] = head[1] >> 7;
        out->size_bytes[n] = r->size[row];
        out->level[n] = (int8_t)(level < 0 ? 0 : -(level & 0x7F));
        out->voice[n] = level > 0x7F;
        out->has_level[n] = level >= 0;
        out->tos[n] = r->tos[row];
        out->transit_delta_us[n] = a.transit_us;
        out->transit_known[n] = a.transit_known;
        out->newly_lost[n] = a.newly_lost;
        out->reordered[n] = a.reordered;
        out->duplicate[n] = a.duplicate;
    }
}

/* As Arrow wants it */

static void pack_bits(const uint8_t *truth, uint64_t from, uint64_t to, uint8_t *bits) {
    for (uint64_t n = from; n < to; n += 8) {
        uint8_t octet = 0;
        for (uint64_t bit = 0; bit < 8 && n + bit < to; bit++) octet |= (uint8_t)((truth[n + bit] != 0) << bit);
        bits[n / 8] = octet;
    }
}

/* To the nearest multiple, half to even, within 32 bits. */
static int32_t rounded(int32_t value, int32_t step) {
    int64_t steps = floor_div(value, step), twice = 2 * (value - steps * step), most = INT32_MAX / step;
    steps += twice > step || (twice == step && steps & 1);
    return (int32_t)(steps > most ? most : steps < -most ? -most : steps) * step;
}

void derive_pack(const derive_columns *in, uint64_t from, uint64_t to, int64_t step_ns, const derive_packed *out) {
    int32_t step_us = (int32_t)(step_ns / 1000);
    for (uint64_t n = from; n < to; n++) {
        out->observed_ns[n] = (int64_t)((uint64_t)floor_div(in->observed_ns[n], step_ns) * (uint64_t)step_ns);
        out->tap[n] = in->tap[n];
        out->transit_delta_us[n] = rounded(in->transit_delta_us[n], step_us);
        out->dscp[n] = (uint8_t)(in->tos[n] >> 2);
    }
    for (uint64_t n = from; n < to; n += 8) {
        uint8_t octet = 0;
        for (uint64_t bit = 0; bit < 8 && n + bit < to; bit++) octet |= (uint8_t)((in->tos[n + bit] >= 0) << bit);
        out->dscp_valid[n / 8] = octet;
    }
    pack_bits(in->marker, from, to, out->marker);
    pack_bits(in->voice, from, to, out->voice);
    pack_bits(in->reordered, from, to, out->reordered);
    pack_bits(in->duplicate, from, to, out->duplicate);
    pack_bits(in->has_level, from, to, out->level_valid);
    pack_bits(in->transit_known, from, to, out->transit_valid);
}
