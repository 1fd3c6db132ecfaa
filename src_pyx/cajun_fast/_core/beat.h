/* The beat of a process: one thread that needs no interpreter, and a table of who hears whom.
 *
 * Every interval the thread sends one datagram to each peer that asked for it, and takes in those of the peers. What a
 * datagram says: this process lives, and its event loop last turned so long ago. A key that the two nodes exchanged over
 * their link signs it, and its number rises, so that neither a stranger nor a recording can keep a dead node alive.
 *
 *   0  0xCF 0xBE  version u8 = 1  flags u8 = 0
 *   4  id u32        which of the receiver's peers this is, as the receiver said
 *   8  number u64    rises with each beat under one key
 *  16  turns u64     how often the event loop was seen to turn
 *  24  standing u64  nanoseconds since it last was
 *  32  mac u64       SipHash-2-4 of the 32 bytes before, under the key      (all integers little-endian)
 *
 * Laws
 *   - nothing here knows Python; no function waits for anything but the table's mutex, which is never held over a
 *     system call that can block
 *   - every datagram that is not exactly right is dropped and counted, never answered
 */
#ifndef CAJUN_BEAT_H
#define CAJUN_BEAT_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define BEAT_KEY 16
#define BEAT_SIZE 40
#define BEAT_SLOTS 65536

typedef struct beat_heart beat_heart;

typedef struct {
    int64_t age_ns;      /* since the last beat of the peer came */
    int64_t standing_ns; /* how long its loop had stood then */
    uint64_t turns;
    uint64_t number;
} beat_pulse;

/* Takes over `fd`, a bound datagram socket. NULL, with errno: there is no memory, no pipe or no thread. */
beat_heart *beat_start(int fd, int64_t interval_ns);
/* Stops the thread and closes the socket; the pointer is dead afterwards. */
void beat_stop(beat_heart *heart);

void beat_turn(beat_heart *heart);
/* Beats with this slot as their id come under this key from now on. 0, or -1: no memory, or no such slot possible. */
int beat_expect(beat_heart *heart, uint32_t slot, const unsigned char key[BEAT_KEY]);
/* Send beats of this slot there; numbers go on under the same key. `host` is a numeric address of the socket's family. 0, or -1: it is none. */
int beat_send_to(beat_heart *heart, uint32_t slot, const char *host, uint16_t port, uint32_t id,
                 const unsigned char key[BEAT_KEY]);
void beat_forget(beat_heart *heart, uint32_t slot);
/* 1: `pulse` was filled; 0: nothing was heard in this slot. */
int beat_last(beat_heart *heart, uint32_t slot, beat_pulse *pulse);
/* A datagram, as the thread takes it in. */
void beat_take_in(beat_heart *heart, const unsigned char *beat, ssize_t size);
uint64_t beat_dropped(beat_heart *heart);

uint64_t beat_siphash(const unsigned char key[BEAT_KEY], const unsigned char *data, size_t size);

#endif
