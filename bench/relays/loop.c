/* The least that a relay can do: recvmmsg, put a header before or take one off, sendmmsg. It checks nothing, knows no
   flow and records nothing. Prints its two ports and forwards until its input closes.
   Usage: edge_loop PORT UP_HEADER_BYTES DOWN_HEADER_BYTES: the transceiver's port on 127.0.0.1, and what headers take. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BATCH = 256, SLOT = 2048, HEADER_MAX = 64, BUFFER = 4 << 20 };

static char data[BATCH][SLOT], head[BATCH][HEADER_MAX];
static struct sockaddr_in from[BATCH];
static struct iovec in[BATCH], out[BATCH][2];
static struct mmsghdr received[BATCH], to_send[BATCH];

static int udp(struct sockaddr_in *address) {
    int fd = socket(AF_INET, SOCK_DGRAM, 0), buffer = BUFFER;
    socklen_t size = sizeof *address;
    memset(address, 0, sizeof *address);
    address->sin_family = AF_INET;
    address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
    if (bind(fd, (struct sockaddr *)address, sizeof *address) || getsockname(fd, (struct sockaddr *)address, &size))
        exit(1);
    return fd;
}

static int take(int fd) {
    for (int i = 0; i < BATCH; i++) received[i].msg_hdr.msg_namelen = sizeof from[i];
    return recvmmsg(fd, received, BATCH, MSG_DONTWAIT, NULL);
}

static void give(int fd, int n) {
    for (int i = 0; i < n;) {
        int sent = sendmmsg(fd, to_send + i, n - i, MSG_DONTWAIT);
        i += sent > 0 ? sent : 1;
    }
}

int main(int count, char **arguments) {
    struct sockaddr_in public, internal, transceiver = {.sin_family = AF_INET};
    if (count != 4) return 2;
    transceiver.sin_port = htons(atoi(arguments[1]));
    transceiver.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int up_bytes = atoi(arguments[2]), down_bytes = atoi(arguments[3]);
    if (up_bytes < 8 || up_bytes > HEADER_MAX || down_bytes < 8 || down_bytes > HEADER_MAX) return 2;
    struct pollfd ready[3] = {{udp(&public), POLLIN, 0}, {udp(&internal), POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}};
    printf("%d %d\n", ntohs(public.sin_port), ntohs(internal.sin_port));
    fflush(stdout);
    for (int i = 0; i < BATCH; i++) {
        in[i] = (struct iovec){data[i], SLOT};
        received[i].msg_hdr = (struct msghdr){.msg_name = &from[i], .msg_iov = &in[i], .msg_iovlen = 1};
    }
    while (poll(ready, 3, -1) >= 0 && !ready[2].revents) {
        if (ready[0].revents) {
            int n = take(ready[0].fd);
            for (int i = 0; i < n; i++) {
                head[i][0] = 0x5e;
                memcpy(head[i] + 2, &from[i].sin_port, 6);
                out[i][0] = (struct iovec){head[i], up_bytes};
                out[i][1] = (struct iovec){data[i], received[i].msg_len};
                to_send[i].msg_hdr = (struct msghdr){
                    .msg_name = &transceiver, .msg_namelen = sizeof transceiver, .msg_iov = out[i], .msg_iovlen = 2};
            }
            give(ready[1].fd, n);
        }
        if (ready[1].revents) {
            int n = take(ready[1].fd), m = 0;
            for (int i = 0; i < n; i++) {
                if (received[i].msg_len < (unsigned)down_bytes) continue;
                memcpy(&from[i].sin_port, data[i] + 2, 6);
                out[m][0] = (struct iovec){data[i] + down_bytes, received[i].msg_len - down_bytes};
                to_send[m].msg_hdr = (struct msghdr){
                    .msg_name = &from[i], .msg_namelen = sizeof from[i], .msg_iov = out[m], .msg_iovlen = 1};
                m++;
            }
            give(ready[0].fd, m);
        }
    }
    return 0;
}
