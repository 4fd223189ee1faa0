/* The index of flows: what changes it, which is the loop's and not the hot path's. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "wire.h"
#include "index.h"

int flow_index_new(flow_index *index, uint32_t flows, const uint64_t *seeds) {
    uint32_t places = 64;
    while (places < flows * 2) places *= 2;
    index->mask = places - 1;
    memcpy(index->seeds, seeds, sizeof index->seeds);
    index->flows = calloc(flows, sizeof *index->flows);
    index->places = malloc(places * sizeof *index->places);
    if (!index->flows || !index->places) return 0;
    memset(index->places, 0xFF, places * sizeof *index->places);
    return 1;
}

void flow_index_free(flow_index *index) {
    free(index->flows);
    free(index->places);
}

void flow_index_open(flow_index *index, uint32_t slot) {
    uint32_t at = flow_place(index, index->flows[slot].key);
    while (index->places[at] != NONE) at = (at + 1) & index->mask;
    index->places[at] = slot;
}

void flow_index_close(flow_index *index, uint32_t slot) {
    uint32_t at = flow_place(index, index->flows[slot].key), hole;
    while (index->places[at] != slot) {
        if (index->places[at] == NONE) return;
        at = (at + 1) & index->mask;
    }
    /* Close the gap instead of marking it: the table stays as good as new, whatever comes and goes. */
    for (hole = at;;) {
        at = (at + 1) & index->mask;
        if (index->places[at] == NONE) break;
        uint32_t home = flow_place(index, index->flows[index->places[at]].key);
        if (((at - home) & index->mask) >= ((at - hole) & index->mask)) {
            index->places[hole] = index->places[at];
            hole = at;
        }
    }
    index->places[hole] = NONE;
    memset(&index->flows[slot], 0, sizeof index->flows[slot]);
}
