/* Flows by their clients' addresses. Of the compiled half's own files: cffi does not read it.

   `flow_find` is here, so that the hot path has it inline. To be included after `wire.h`. */

#define NONE 0xFFFFFFFFu

typedef struct {
    wire_flow *flows;
    uint32_t *places;           /* slots by open addressing, linear probing; twice the flows at least */
    uint32_t mask;
    uint64_t seeds[2];
} flow_index;

/* 0 without memory. */
int flow_index_new(flow_index *index, uint32_t flows, const uint64_t *seeds);
void flow_index_free(flow_index *index);
void flow_index_open(flow_index *index, uint32_t slot);
void flow_index_close(flow_index *index, uint32_t slot);

/* Seeded: nobody who picks ports can make chains. */
__extension__ typedef unsigned __int128 wide;

static inline uint32_t flow_place(const flow_index *index, const uint64_t key[3]) {
    wide a = (wide)(key[0] ^ index->seeds[0]) * (key[1] ^ index->seeds[1] ^ 0x9E3779B97F4A7C15u);
    uint64_t b = (uint64_t)a ^ (uint64_t)(a >> 64) ^ key[2];
    a = (wide)(b ^ index->seeds[1]) * 0xD6E8FEB86659FD93u;
    return (uint32_t)((uint64_t)a ^ (uint64_t)(a >> 64)) & index->mask;
}

/* The slot of a client's flow, or NONE. */
static inline uint32_t flow_find(const flow_index *index, const uint64_t key[3]) {
    for (uint32_t at = flow_place(index, key);; at = (at + 1) & index->mask) {
        uint32_t slot = index->places[at];
        if (slot == NONE) return NONE;
        if (!memcmp(index->flows[slot].key, key, sizeof index->flows[slot].key)) return slot;
    }
}
