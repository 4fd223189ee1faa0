/* What the edge's loop and its compiled half share. Read by the compiler and, as it is, by cffi: no preprocessor here. */

enum {
    WIRE_SLOT_BYTES = 2048,
    WIRE_HEAD_BYTES = 64,
    WIRE_MAC_BYTES = 8,
    WIRE_SESSION_BYTES = 16,
};

/* One client address. The loop writes it, `seen_ns` is written here. */
typedef struct {
    uint64_t key[3];            /* port and address in network order, padded with zeros */
    uint64_t seen_ns;           /* monotonic, of the client's last packet */
    uint8_t up[32];             /* header before each datagram on the way up */
    uint8_t down[48];           /* header under which the transceiver speaks of this client */
    uint8_t client[32];         /* struct sockaddr_in or sockaddr_in6 */
    uint8_t transceiver[32];    /* likewise */
    uint32_t up_bytes;
    uint32_t down_bytes;        /* 0: no transceiver has spoken yet */
    uint32_t client_bytes;
    uint32_t transceiver_bytes;
    uint32_t owner;
    uint32_t train;             /* written here: the last message that had a datagram of it */
} wire_flow;

/* Where captured packets go: arrays of `capacity` rows of the loop's. */
typedef struct {
    uint8_t *head;              /* WIRE_HEAD_BYTES a row */
    int64_t *at_ns;
    uint32_t *owner;
    uint16_t *size;
    int16_t *tos;
    uint8_t *tap;
    uint64_t *filled;           /* rows used */
    uint64_t *seen;             /* packets that were to be captured */
    uint64_t *full;             /* of these, given up because no row was left */
    uint64_t *overload;         /* of these, given up because the edge was behind */
    uint64_t capacity;
} wire_capture;

/* One datagram that the loop has to look at. */
typedef struct {
    uint8_t *data;
    uint32_t bytes;
    int32_t tos;
    int64_t at_ns;
    uint8_t *source;
    uint32_t source_bytes;
} wire_datagram;

typedef struct {
    uint64_t forwarded[2];      /* up, down; that the kernel took */
    uint64_t unknown_source;
    uint64_t unknown_kind[2];
    uint64_t late[2];
    uint64_t oversize[2];
    uint64_t receive_error[2];
    uint64_t send_full[2];      /* by the direction in which it was to go */
    uint64_t send_error[2];
    uint64_t messages[2];       /* that the kernel took: fewer than were forwarded where it cuts them up */
    uint64_t segments_error[2]; /* errno of the first message that it would not cut up: no more are tried. 0: none */
    uint64_t overflowed[2];     /* by the socket: public, internal */
} wire_counters;

typedef struct wire wire;

/* NULL without memory. The descriptors stay the caller's. */
wire *wire_new(int public_fd, int internal_fd, int ipv6, uint32_t flows, uint32_t batch, const uint64_t *seeds);
void wire_free(wire *w);
wire_flow *wire_flows(wire *w);
wire_counters *wire_count(wire *w);
wire_capture *wire_rows(wire *w);
void wire_policy(wire *w, int record, int shed, int64_t late_ns);
void wire_open(wire *w, uint32_t slot);
void wire_close(wire *w, uint32_t slot);
/* Wait at most so long, then take one batch from each socket that has datagrams and forward what follows a flow; and,
   unless there was to be no wait, go on so for a millisecond while more arrives and nothing is left to the loop.
   Returns the datagrams left to it (from clients, then from transceivers), -1 if the wait failed. */
int wire_turn(wire *w, int64_t timeout_ns);
int wire_left(wire *w, int direction, wire_datagram **datagrams);
/* Whether every batch of the last turn left datagrams in a socket. */
int wire_behind(wire *w);
