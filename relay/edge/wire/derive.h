/* From captured rows to packet facts, by columns. Read by the compiler and, as it is, by cffi: no preprocessor here.

   The reference is `relay.edge.derive.PortableDeriver`: both say the same of any rows. */

/* Rows in the order of their capture; the arrays are the caller's and stay until the last `derive_fill`. */
typedef struct {
    uint8_t *head;              /* WIRE_HEAD_BYTES a row */
    int64_t *at_ns;
    uint32_t *owner;
    uint16_t *size;
    int16_t *tos;
    uint8_t *tap;
    uint64_t rows;
    uint8_t *sessions;          /* by owner, WIRE_SESSION_BYTES each */
    int64_t *codes;             /* by owner, the same for all of a session; negative: not known, the row is left out */
    uint8_t *level_ids;         /* by owner */
    uint64_t owners;
} derive_rows;

/* One element a packet, WIRE_SESSION_BYTES for `session`. */
typedef struct {
    uint8_t *session;
    int64_t *observed_ns;
    uint8_t *tap;
    uint32_t *stream;
    int64_t *ext_seq;
    uint32_t *rtp_ts;
    uint8_t *payload_type;
    uint8_t *marker;
    uint16_t *size_bytes;
    int8_t *level;
    uint8_t *voice;
    uint8_t *has_level;
    int16_t *tos;
    int32_t *transit_delta_us;
    uint8_t *transit_known;
    int32_t *newly_lost;
    uint8_t *reordered;
    uint8_t *duplicate;
} derive_columns;

/* What Arrow wants otherwise: truth values and validity as bits, times cut to a step, differences rounded to one. */
typedef struct {
    int64_t *observed_ns;
    int32_t *tap;
    int32_t *transit_delta_us;
    uint8_t *dscp;
    uint8_t *marker;
    uint8_t *voice;
    uint8_t *reordered;
    uint8_t *duplicate;
    uint8_t *level_valid;
    uint8_t *dscp_valid;
    uint8_t *transit_valid;
} derive_packed;

typedef struct derive derive;

/* NULL without memory. */
derive *derive_new(uint32_t streams_per_tap, uint64_t seed);
void derive_free(derive *d);
/* Take rows up, in this order; each call but the first two may be made in steps. Negative without memory: the rows
   that were not taken in are refused. */
int derive_begin(derive *d, const derive_rows *rows);
int derive_scan(derive *d, uint64_t from, uint64_t to);         /* rows: tell streams apart */
uint64_t derive_arrange(derive *d);                             /* returns the packets that will come of them */
void derive_place(derive *d, uint64_t from, uint64_t to);       /* rows: sort by stream */
void derive_fill(derive *d, uint64_t from, uint64_t to, const derive_columns *out);     /* packets */
/* Since the start: rows of streams beyond a session's at a tap, packets shown missing, those of them that came after
   all; and streams now. */
uint64_t derive_refused(const derive *d);
uint64_t derive_lost(const derive *d);
uint64_t derive_found(const derive *d);
uint64_t derive_streams(const derive *d);
/* Forget the streams whose last packet came before an instant. */
void derive_forget(derive *d, int64_t before_ns);
/* `from` is a multiple of eight. */
void derive_pack(const derive_columns *in, uint64_t from, uint64_t to, int64_t step_ns, const derive_packed *out);
